//! Whose an entry becomes.

use std::collections::HashMap;

use lastgood_format::snapshot::OwnerNames;
use lastgood_host::identity::Accounts;

/// How owners are found on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// By number on the host that the snapshot is of, by name on any other.
    #[default]
    Auto,
    /// By number.
    Numbers,
    /// By name where the snapshot knows it and this host has an account of that name, else by
    /// number.
    Names,
}

/// Numbers of the snapshot that stand for other numbers here; all others stand for themselves.
#[derive(Debug, Default)]
pub(crate) struct OwnerMap {
    users: HashMap<u32, u32>,
    groups: HashMap<u32, u32>,
}

impl OwnerMap {
    /// Maps by name. Number 0 is root everywhere.
    pub(crate) fn by_name(names: &OwnerNames, accounts: &Accounts) -> Self {
        let map = |names: &[(u32, String)], find: &dyn Fn(&[u8]) -> Option<u32>| {
            names
                .iter()
                .filter(|(number, _)| *number != 0)
                .filter_map(|(number, name)| Some((*number, find(name.as_bytes())?)))
                .filter(|(number, here)| number != here)
                .collect()
        };
        Self {
            users: map(&names.users, &|name| accounts.user_id(name)),
            groups: map(&names.groups, &|name| accounts.group_id(name)),
        }
    }

    pub(crate) fn user(&self, uid: u32) -> u32 {
        self.users.get(&uid).copied().unwrap_or(uid)
    }

    pub(crate) fn group(&self, gid: u32) -> u32 {
        self.groups.get(&gid).copied().unwrap_or(gid)
    }
}
