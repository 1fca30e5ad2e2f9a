//! One convention from an enum to its stable name: in JSON, on screens and in the documentation.

/// Declares an enum whose variants each have one stable name.
///
/// From the list come `ALL` (in the order of declaration), `name()`, [`Display`](std::fmt::Display), and serde's two
/// traits. All of them use the same name.
macro_rules! names {
    (
        $(#[$doc:meta])*
        pub enum $enum:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $enum { $($(#[$variant_doc])* $variant,)* }

        impl $enum {
            /// All of them, in the order in which lists show them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Their names, in the same order.
            const NAMES: &[&str] = &[$($name,)*];

            /// Its name in JSON and on screens.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl ::std::fmt::Display for $enum {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::serde::Serialize for $enum {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $enum {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = ::std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                let unknown = || ::serde::de::Error::unknown_variant(&name, Self::NAMES);
                Self::ALL.iter().copied().find(|variant| variant.name() == name).ok_or_else(unknown)
            }
        }
    };
}

pub(crate) use names;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::{
        coverage::{Measure, Status},
        figures::{Kind, Sum, Unit},
        model::{PatternName, Role, Severity},
        sample::Protocol,
    };

    /// Each variant is written as its name and read back as itself. No two variants share a name.
    macro_rules! check {
        ($($enum:ident),*) => {
            $(
                let names: BTreeSet<&str> = $enum::ALL.iter().map(|variant| variant.name()).collect();
                assert_eq!(names.len(), $enum::ALL.len(), "two names of {} are equal", stringify!($enum));
                for variant in $enum::ALL {
                    let written = serde_json::to_string(variant).unwrap();
                    assert_eq!(written, format!("\"{variant}\""));
                    assert_eq!(serde_json::from_str::<$enum>(&written).unwrap(), *variant);
                }
                assert!(serde_json::from_str::<$enum>("\"no such name\"").is_err());
            )*
        };
    }

    #[test]
    fn every_name_is_unique_and_is_read_back() {
        check!(Measure, Status, Severity, PatternName, Role, Protocol, Kind, Sum, Unit);
    }

    #[test]
    fn a_name_takes_the_width_that_it_is_given() {
        assert_eq!(format!("{:<9}|{:>6}", Severity::Critical, Role::Reader), "critical |reader");
    }
}
