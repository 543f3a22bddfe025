//! The families of what threads do, of load averages, and of open descriptors.

use agent_model::limit::Limit;
use agent_tracer::kernel::threads::ThreadActivity;

use super::{Cgroup, Samples, Source};
use crate::catalogue;
use crate::tasks::Tasks;
use crate::text::Value;

pub const SOURCES: &[Source] = &[
    Source {
        metric: &catalogue::TASKS_STATE,
        write: states,
    },
    Source {
        metric: &catalogue::CPU_LOAD_AVERAGE,
        write: |cgroup, out| out.number(load(cgroup, |load| load[0])),
    },
    Source {
        metric: &catalogue::CPU_LOAD_D_AVERAGE,
        write: |cgroup, out| out.number(load(cgroup, |load| load[1])),
    },
    Source {
        metric: &catalogue::FILE_DESCRIPTORS,
        write: |cgroup, out| out.number(open(cgroup).map(|open| open[0])),
    },
    Source {
        metric: &catalogue::SOCKETS,
        write: |cgroup, out| out.number(open(cgroup).map(|open| open[1])),
    },
    Source {
        metric: &catalogue::ULIMITS_SOFT,
        write: ulimits,
    },
];

fn tasks(cgroup: &Cgroup) -> Option<&Tasks> {
    cgroup.live.as_ref()?.tasks.as_ref()
}

fn states(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    if let Some(tasks) = tasks(cgroup) {
        for (doing, count) in ThreadActivity::ALL.iter().zip(tasks.doing) {
            out.push(&[doing.name()], Value::Number(count));
        }
    }
}

/// Returns a load average. As in cAdvisor, the unit is a thousandth of a thread.
fn load(cgroup: &Cgroup, which: fn(&[u64; 2]) -> u64) -> Option<u64> {
    tasks(cgroup)?.load.as_ref().map(which)
}

fn open(cgroup: &Cgroup) -> Option<[u64; 2]> {
    let open = tasks(cgroup)?.open?;
    Some([open.descriptors, open.sockets])
}

fn ulimits(cgroup: &Cgroup, out: &mut Samples<'_, '_>) {
    if let Some(limit) = cgroup.on_request.descriptors {
        let value = match limit {
            Limit::Max => Value::MinusOne,
            Limit::Value(limit) => Value::Number(limit),
        };
        out.push(&["max_open_files"], value);
    }
}
