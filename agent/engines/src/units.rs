//! The units of the host's systemd: what it reports of each, and the results of those that end.

use std::collections::HashMap;

use agent_model::container::Container;
use agent_model::labels::{ContainerLabels, LabelPatterns};
use agent_model::text::cut;
use agent_registry::unit::is_name;
use futures_util::StreamExt as _;
use zbus::message::Type;
use zbus::{Message, MessageStream, OwnedVariant, Variant};

use crate::intent::systemd::bus::{self, DESCRIPTION, Properties, Sockets, UNIT};
use crate::intent::systemd::of_properties;
pub use crate::intent::systemd::systemd_runs;
use crate::intent::{Error, Intent, Source};

/// What systemd reports of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// Its description, if the patterns allow the label.
    pub labels: ContainerLabels,
    /// The limits that it is to have; `None` if systemd does not know the unit.
    pub intended: Option<Intent>,
}

/// Asks systemd about a unit of the host's.
///
/// # Errors
/// systemd does not answer.
pub async fn ask(unit: &Container, patterns: &LabelPatterns) -> Result<UnitFacts, Error> {
    let facts = of_properties(unit, |properties: &Properties| {
        let description = properties.text(DESCRIPTION)?;
        let label = (LabelPatterns::DESCRIPTION, description);
        let labels = patterns.select(Some(label).filter(|_| !description.is_empty()));
        let intended = Some(Intent::new(properties.limits()?, Source::Systemd));
        Ok(UnitFacts { labels, intended })
    });
    Ok(facts.await?.unwrap_or_default())
}

/// What systemd says of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitMessage {
    /// From here on it reports each result.
    Connected,
    /// The processes of a unit have ended.
    Ended {
        /// The unit's name.
        unit: String,
        /// `success`, `exit-code`, `oom-kill` or another one (org.freedesktop.systemd1(5)).
        result: String,
    },
}

/// Passes on what systemd says, until it closes the connection. It says all to those who connect to its own socket, which is
/// root's.
///
/// # Errors
/// The connection cannot be made, or breaks.
pub async fn follow(tell: impl FnMut(UnitMessage)) -> Result<(), bus::Error> {
    follow_at(&Sockets::default(), tell).await
}

async fn follow_at(sockets: &Sockets, mut tell: impl FnMut(UnitMessage)) -> Result<(), bus::Error> {
    let connection = sockets.private().await?;
    let mut messages = MessageStream::from(&connection);
    tell(UnitMessage::Connected);
    let mut results = Results::default();
    while let Some(message) = messages.next().await {
        let message = message.map_err(|source| sockets.refused(source))?;
        if let Some((unit, result)) = results.of(&message) {
            tell(UnitMessage::Ended { unit, result });
        }
    }
    Ok(())
}

/// Finds results in systemd's signals. A unit's change is two of them: first one with what its type has, such as the result,
/// then one with what all units have, such as the state (`send_changed_signal`, src/core/dbus-unit.c).
#[derive(Debug, Default)]
struct Results {
    /// The result in the last signal, and its unit.
    last: Option<(String, String)>,
}

impl Results {
    /// The unit that has ended by this message, and its result.
    fn of(&mut self, message: &Message) -> Option<(String, String)> {
        let header = message.header();
        let member = header.member().map(zbus::names::MemberName::as_str);
        if message.message_type() != Type::Signal || member != Some("PropertiesChanged") {
            return None;
        }
        let unit = bus::unit(header.path()?.as_str()).filter(|unit| is_name(unit))?;
        let body = message.body();
        let (interface, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().ok()?;
        let text = |name: &str| match &**changed.get(name)? {
            Variant::Str(text) => Some(text.to_string()),
            _ => None,
        };
        if interface != UNIT {
            let result = text("Result").map(|result| cut(&result).to_owned());
            self.last = result.map(|result| (unit, result));
            return None;
        }
        let is_ended = matches!(text("ActiveState").as_deref(), Some("inactive" | "failed"));
        let restarts = text("SubState").is_some_and(|state| state.contains("auto-restart"));
        let last = self.last.take().filter(|_| is_ended || restarts);
        last.filter(|(of, _)| *of == unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signal that a unit's properties of an interface have changed.
    fn changed(unit: &str, interface: &str, properties: &[(&str, &str)]) -> Message {
        let path = format!("/org/freedesktop/systemd1/unit/{unit}");
        let properties: HashMap<&str, Variant<'_>> = properties
            .iter()
            .map(|(name, value)| (*name, Variant::from(*value)))
            .collect();
        let interface = format!("org.freedesktop.systemd1.{interface}");
        let none: Vec<String> = Vec::new();
        let of = "org.freedesktop.DBus.Properties";
        let signal = Message::signal(path, of, "PropertiesChanged");
        let body = (interface, properties, none);
        signal.build(&body).expect("a signal")
    }

    #[test]
    fn a_result_is_that_of_a_unit_that_has_ended() {
        let mut results = Results::default();
        let mut ends = |unit: &str, result: &str, state: (&str, &str)| {
            let own = changed(unit, "Service", &[("Result", result)]);
            assert_eq!(results.of(&own), None);
            let states = [("ActiveState", state.0), ("SubState", state.1)];
            results.of(&changed(unit, "Unit", &states))
        };
        let ended = |result: &str| Some(("web.service".to_owned(), result.to_owned()));
        let web = "web_2eservice";
        assert_eq!(ends(web, "success", ("active", "running")), None);
        assert_eq!(
            ends(web, "oom-kill", ("failed", "failed")),
            ended("oom-kill")
        );
        assert_eq!(ends(web, "success", ("inactive", "dead")), ended("success"));
        let restarts = ("activating", "auto-restart");
        assert_eq!(ends(web, "exit-code", restarts), ended("exit-code"));
        assert_eq!(ends("web_2esocket", "success", ("inactive", "dead")), None);
        // Another unit's result is not this one's.
        let other = changed("other_2eservice", "Service", &[("Result", "signal")]);
        assert_eq!(results.of(&other), None);
        let state = changed(web, "Unit", &[("ActiveState", "failed")]);
        assert_eq!(results.of(&state), None);
        // A slice has no result.
        assert_eq!(results.of(&changed("a_2eslice", "Slice", &[])), None);
        let state = changed("a_2eslice", "Unit", &[("ActiveState", "inactive")]);
        assert_eq!(results.of(&state), None);
    }

    #[tokio::test]
    async fn where_systemd_does_not_listen_the_socket_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = Sockets {
            private: directory.path().join("private"),
            ..Sockets::default()
        };
        let error = follow_at(&sockets, |_| {}).await.unwrap_err();
        let socket = sockets.private.display().to_string();
        assert!(error.to_string().contains(&socket), "{error}");
    }
}
