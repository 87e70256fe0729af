//! The engines by the names that they have on the command line.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Default, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The one that the library chooses here
    #[default]
    Auto,
    /// Access rights of pages; works everywhere
    Protect,
    /// Access rights and guard markers (Linux 6.13)
    Guard,
    /// userfaultfd (Linux 5.11, where it is allowed)
    #[value(name = "userfault")]
    UserFault,
}

impl Engine {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl From<Engine> for pagewise::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Protect => Self::Protect,
            Engine::Guard => Self::Guard,
            Engine::UserFault => Self::UserFault,
        }
    }
}
