//! What lies beside a mirror and restores it without us.

/// Names and contents.
pub const FILES: [(&str, &str); 3] = [
    ("restore.sh", include_str!("../scripts/restore.sh")),
    ("restore.py", include_str!("../scripts/restore.py")),
    ("RESTORE-README.txt", include_str!("../scripts/RESTORE-README.txt")),
];
