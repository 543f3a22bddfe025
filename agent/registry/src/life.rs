//! When a container runs: from when the first of its cgroups holds a task until the last is empty.
//!
//! An engine's short helpers may be in the cgroups before the first process is. So where none was seen, a container that
//! becomes empty has not ended yet: it may be populated again, and else ends when its cgroup is removed or somebody says
//! that it was empty for long enough.

use std::sync::Arc;

use agent_ebpf::Task;
use agent_model::container::{Container, ContainerAction, Exit};

use super::registry::exit;

/// A container's life.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// ns of CLOCK_BOOTTIME; `None` while it does not run.
    started: Option<u64>,
    init: Option<Task>,
    oom_killed: bool,
    exit: Option<Exit>,
    /// It is empty, and no first process was seen: for the time that has this number.
    empty: Option<EmptyPeriod>,
    /// The last of these that somebody was told of.
    told: EmptyPeriod,
    spells: EmptyPeriod,
}

/// Numbers the times in which a container was empty before its first process was seen.
pub type EmptyPeriod = u32;

/// A container started or stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeChange {
    pub action: ContainerAction,
    pub container: Arc<Container>,
    /// How its first process ended, where that was seen.
    pub exit: Option<Exit>,
}

impl Life {
    /// There are tasks in it at `time`, or there are none.
    pub fn set_populated(
        &mut self,
        populated: bool,
        time: u64,
        container: &Arc<Container>,
    ) -> Option<LifeChange> {
        match (populated, self.running()) {
            (true, true) => self.empty = None,
            (true, false) => return Some(self.start(time, container)),
            (false, true) if self.init.is_some() => return self.end(container),
            (false, true) if self.empty.is_none() => {
                self.spells = self.spells.wrapping_add(1);
                self.empty = Some(self.spells);
            }
            (false, _) => {}
        }
        None
    }

    fn start(&mut self, time: u64, container: &Arc<Container>) -> LifeChange {
        *self = Self {
            started: Some(time),
            told: self.told,
            spells: self.spells,
            ..Self::default()
        };
        LifeChange {
            action: ContainerAction::Start,
            container: Arc::clone(container),
            exit: None,
        }
    }

    /// Its life is over, if it has one.
    pub fn end(&mut self, container: &Arc<Container>) -> Option<LifeChange> {
        self.started?;
        let (told, spells) = (self.told, self.spells);
        let ended = std::mem::replace(
            self,
            Self {
                told,
                spells,
                ..Self::default()
            },
        );
        Some(LifeChange {
            action: ContainerAction::Stop,
            container: Arc::clone(container),
            exit: ended.exit,
        })
    }

    /// The time in which it is empty and may be populated again, told once.
    pub fn take_empty(&mut self) -> Option<EmptyPeriod> {
        let empty = self.empty.filter(|it| *it != self.told)?;
        self.told = empty;
        Some(empty)
    }

    /// Whether it is empty since that time.
    pub fn is_empty(&self, spell: EmptyPeriod) -> bool {
        self.empty == Some(spell)
    }

    /// Whether it has a life: tasks are in it, or it is not known yet that no more will be.
    pub fn running(&self) -> bool {
        self.started.is_some()
    }

    /// When it started, in ns of CLOCK_BOOTTIME.
    pub fn started(&self) -> Option<u64> {
        self.started
    }

    /// Its first process, while that lives.
    pub fn init(&self) -> Option<&Task> {
        self.init.as_ref().filter(|_| self.exit.is_none())
    }

    /// Says which process is its first one. The first that is told stays.
    pub fn set_init(&mut self, task: &Task) {
        if self.init.is_none() {
            self.init = Some(*task);
        }
    }

    fn is_init(&self, task: &Task) -> bool {
        let init = self.init.as_ref();
        init.is_some_and(|init| (init.pid, init.start_time) == (task.pid, task.start_time))
    }

    /// A task has other namespaces now. Those of the first process, which are its main thread's,
    /// are its container's.
    pub fn set_namespaces(&mut self, task: &Task) {
        if self.is_init(task)
            && task.pid == task.tid
            && let Some(init) = &mut self.init
        {
            init.namespaces = task.namespaces;
        }
    }

    /// A process ended at `time`, with this wait status.
    pub fn set_exit(&mut self, task: &Task, status: u32, time: u64) {
        if self.is_init(task) {
            let duration = time.saturating_sub(task.start_time);
            self.exit = Some(exit(status, self.oom_killed, duration));
        }
    }

    /// A process was killed by the OOM killer.
    pub fn set_oom_killed(&mut self, task: &Task) {
        self.oom_killed |= self.is_init(task);
    }
}
