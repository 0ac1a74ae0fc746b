//! Member names that stand twice in one JSON object.
//!
//! RFC 8259 leaves open which of the two counts, and readers differ: what a proxy or a human was shown need not be what
//! is run. So no message of that kind is taken, wherever in it the name stands.

use std::{borrow::Cow, cell::Cell, collections::HashSet, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What was found of names that stand twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Twice {
    /// Some object has one.
    pub(super) anywhere: bool,
    /// The outermost object has `id` twice, so nobody knows which request it is.
    pub(super) id: bool,
}

/// Looks through bytes that are known to be JSON. One pass; of each open object its names are kept.
pub(super) fn twice(bytes: &[u8]) -> Twice {
    let found = Cell::new(Twice::default());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    // What is no JSON has been refused before.
    let _ = Walk { outermost: true, found: &found }.deserialize(&mut reader);
    found.get()
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    outermost: bool,
    found: &'a Cell<Twice>,
}

impl Walk<'_> {
    fn inner(self) -> Self {
        Self { outermost: false, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(Name(name)) = map.next_key()? {
            let is_id = self.outermost && name == "id";
            if !names.insert(name) {
                let found = self.found.get();
                self.found.set(Twice { anywhere: true, id: found.id || is_id });
            }
            map.next_value_seed(self.inner())?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A name as it is meant: `"\u0069d"` is `id`. Borrowed where nothing was escaped.
#[derive(PartialEq, Eq, Hash)]
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_stand_twice_are_found_at_any_depth_and_spelling() {
        for (json, anywhere, id) in [
            (r#"{"a":1,"b":{"a":[{"a":2}]}}"#, false, false),
            (r#"{"a":1,"a":1}"#, true, false),
            (r#"{"a":[1,{"b":null,"\u0062":"x"}]}"#, true, false),
            (r#"{"id":1,"i\u0064":2}"#, true, true),
            (r#"{"params":{"id":1,"id":2}}"#, true, false),
            (r#"[{"id":1},{"id":1}]"#, false, false),
            ("3", false, false),
        ] {
            assert_eq!(twice(json.as_bytes()), Twice { anywhere, id }, "{json}");
        }
    }
}
