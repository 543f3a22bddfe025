//! Chooses containers: `agent ps --filter`.

use std::str::FromStr;

use super::fields::labels;
use crate::container_condition::ContainerCondition;
use crate::containers::ContainerState;

/// One condition that a container must meet, as `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    key: Key,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Name,
    Id,
    Status,
    Image,
    Runtime,
    Kind,
    Label,
}

/// The keys by name. docker has `ancestor` for the image.
const KEYS: [(&str, Key); 8] = [
    ("name", Key::Name),
    ("id", Key::Id),
    ("status", Key::Status),
    ("image", Key::Image),
    ("ancestor", Key::Image),
    ("runtime", Key::Runtime),
    ("kind", Key::Kind),
    ("label", Key::Label),
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let key = KEYS.iter().find(|(it, _)| *it == name);
        let Some((_, key)) = key.filter(|_| !value.is_empty()) else {
            let names = KEYS.map(|(name, _)| name).join(", ");
            return Err(format!("want KEY=VALUE with one of the keys {names}"));
        };
        let conditions = ContainerCondition::ALL.map(ContainerCondition::name);
        if *key == Key::Status && !conditions.contains(&value) {
            let names = conditions.join(", ");
            return Err(format!("{value:?} is no state; want {names}"));
        }
        Ok(Self {
            key: *key,
            value: value.to_owned(),
        })
    }
}

impl Filter {
    fn takes(&self, state: &ContainerState) -> bool {
        let (container, value) = (&state.container, &*self.value);
        match self.key {
            Key::Name => container.name.contains(value),
            Key::Id => container.id.starts_with(value),
            Key::Status => state.state.name() == value,
            Key::Image => container.image == value || has_tag(&container.image, value),
            Key::Runtime => container.runtime == value,
            Key::Kind => container.kind.name() == value,
            Key::Label => {
                let labels = labels(state);
                match value.split_once('=') {
                    Some((name, value)) => labels.get(name).is_some_and(|it| it == value),
                    None => labels.contains_key(value),
                }
            }
        }
    }
}

/// Whether `image` is `name` with a tag.
fn has_tag(image: &str, name: &str) -> bool {
    let rest = image.strip_prefix(name);
    rest.is_some_and(|rest| rest.starts_with(':') && !rest.contains('/'))
}

/// All conditions. A container must meet one of each key, and all of those for labels.
#[derive(Clone, Debug, Default)]
pub struct Filters(pub Vec<Filter>);

impl Filters {
    /// Whether a condition asks for states. As with docker, containers that do not run are then shown too.
    pub fn ask_for_states(&self) -> bool {
        self.0.iter().any(|it| it.key == Key::Status)
    }

    /// Whether a container meets the conditions.
    pub fn take(&self, state: &ContainerState) -> bool {
        KEYS.iter().all(|(_, key)| {
            let mut of_key = self.0.iter().filter(|it| it.key == *key).peekable();
            match key {
                Key::Label => of_key.all(|it| it.takes(state)),
                _ => of_key.peek().is_none() || of_key.any(|it| it.takes(state)),
            }
        })
    }
}
