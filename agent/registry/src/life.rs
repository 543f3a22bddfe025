//! A container's life: it runs from the moment when the first of its cgroups has a task until the last one is empty.
//!
//! An engine's short-lived helpers may be in the cgroups before the init process. So a container that becomes empty before
//! its init process was seen has not stopped yet. It may be populated again; otherwise it stops when its cgroup is removed
//! or the pipeline decides that it was empty for long enough.

use std::sync::Arc;

use agent_ebpf::Task;
use agent_model::container::{Container, ContainerAction, Exit};

/// How a process ended, from its wait status (wait(2)) and its lifetime in ns.
pub fn exit(status: u32, oom_killed: bool, duration: u64) -> Exit {
    Exit {
        code: (status >> 8) as u8,
        signal: (status & 0x7f) as u8,
        oom_killed,
        duration_ms: duration / 1_000_000,
    }
}

/// A container's life.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The start in ns of CLOCK_BOOTTIME; `None` while the container does not run.
    started: Option<u64>,
    init: Option<Task>,
    oom_killed: bool,
    exit: Option<Exit>,
    /// The current empty period, if no init process was seen.
    empty: Option<EmptyPeriod>,
    /// The last period that [`Life::take_empty`] returned.
    reported: EmptyPeriod,
    periods: EmptyPeriod,
}

/// The number of a period in which a container was empty before its init process was seen.
pub type EmptyPeriod = u32;

/// A container started or stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct LifeChange {
    /// Whether it started or stopped.
    pub action: ContainerAction,
    /// The container.
    pub container: Arc<Container>,
    /// How its init process ended, if the agent saw it.
    pub exit: Option<Exit>,
}

impl Life {
    /// Sets whether the container has tasks at `time`.
    pub(crate) fn set_populated(
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
                self.periods = self.periods.wrapping_add(1);
                self.empty = Some(self.periods);
            }
            (false, _) => {}
        }
        None
    }

    fn start(&mut self, time: u64, container: &Arc<Container>) -> LifeChange {
        *self = Self {
            started: Some(time),
            reported: self.reported,
            periods: self.periods,
            ..Self::default()
        };
        LifeChange {
            action: ContainerAction::Start,
            container: Arc::clone(container),
            exit: None,
        }
    }

    /// Ends the container's life; `None` if it does not run.
    pub(crate) fn end(&mut self, container: &Arc<Container>) -> Option<LifeChange> {
        self.started?;
        let (reported, periods) = (self.reported, self.periods);
        let ended = std::mem::replace(
            self,
            Self {
                reported,
                periods,
                ..Self::default()
            },
        );
        Some(LifeChange {
            action: ContainerAction::Stop,
            container: Arc::clone(container),
            exit: ended.exit,
        })
    }

    /// The current empty period, returned once.
    pub(crate) fn take_empty(&mut self) -> Option<EmptyPeriod> {
        let empty = self.empty.filter(|it| *it != self.reported)?;
        self.reported = empty;
        Some(empty)
    }

    /// Whether the container is still in this empty period.
    pub(crate) fn is_empty(&self, spell: EmptyPeriod) -> bool {
        self.empty == Some(spell)
    }

    /// Whether the container runs: it has tasks, or it is in an empty period and has not stopped.
    pub fn running(&self) -> bool {
        self.started.is_some()
    }

    /// When the container started, in ns of CLOCK_BOOTTIME.
    pub fn started(&self) -> Option<u64> {
        self.started
    }

    /// The init process while it lives.
    pub fn init(&self) -> Option<&Task> {
        self.init.as_ref().filter(|_| self.exit.is_none())
    }

    /// Sets the init process, unless one is set.
    pub(crate) fn set_init(&mut self, task: &Task) {
        if self.init.is_none() {
            self.init = Some(*task);
        }
    }

    fn is_init(&self, task: &Task) -> bool {
        let init = self.init.as_ref();
        init.is_some_and(|init| (init.pid, init.start_time) == (task.pid, task.start_time))
    }

    /// Notes that a task has other namespaces. The container's namespaces are those of the init process's main thread.
    pub(crate) fn set_namespaces(&mut self, task: &Task) {
        if self.is_init(task)
            && task.pid == task.tid
            && let Some(init) = &mut self.init
        {
            init.namespaces = task.namespaces;
        }
    }

    /// Notes that a process ended at `time`, with this wait status.
    pub(crate) fn set_exit(&mut self, task: &Task, status: u32, time: u64) {
        if self.is_init(task) {
            let duration = time.saturating_sub(task.start_time);
            self.exit = Some(exit(status, self.oom_killed, duration));
        }
    }

    /// Notes that the OOM killer killed a process.
    pub(crate) fn set_oom_killed(&mut self, task: &Task) {
        self.oom_killed |= self.is_init(task);
    }
}
