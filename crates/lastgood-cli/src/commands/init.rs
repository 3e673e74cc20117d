//! `lastgood init`.

use lastgood::{ChunkerParams, Credential, opening, system};
use serde_json::{Map, json};

use crate::app::{App, not_empty};
use crate::failure::{Code, Failure};
use crate::output::path_bytes;
use crate::settings::{KeySource, absolute};
use crate::text;

/// Flags of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the first key is called [default: USER@HOST]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// How files are cut: `min-aes`, by content, or `fixed`, for disk images only
    #[arg(long, value_name = "NAME[:SIZE]", value_parser = chunker)]
    chunker: Option<ChunkerParams>,
    /// Make nothing; say what would be made
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Args {
    pub(crate) fn run(self, app: &App<'_>) -> Result<(), Failure> {
        let home = app.home()?;
        let world = system::world();
        let (path, source) = match (app.named_repository(), app.named_key()?) {
            (Some(path), source) => (absolute(path)?, source),
            (None, Some(source)) => (home.default_repository(), Some(source)),
            // What the first backup would do by itself.
            (None, None) => {
                (home.default_repository(), Some(KeySource::KeyFile(home.default_key_file())))
            }
        };
        if self.dry_run {
            return dry_run(app, &path);
        }
        let key_file = match &source {
            Some(KeySource::KeyFile(path)) => Some(path.clone()),
            _ => None,
        };
        let key = match source {
            Some(KeySource::RecoveryCodeFile(_)) => {
                return Err(Failure::usage("a new repository gets a recovery code of its own"));
            }
            Some(KeySource::KeyFile(file)) if !file.exists() => {
                opening::write_key_file(&file, &world)?
            }
            Some(source) => match app.credential(&source)? {
                Credential::Passphrase(password) => Credential::Passphrase(not_empty(password)?),
                key => key,
            },
            None => Credential::Passphrase(app.new_password("password for the new repository")?),
        };
        let label = self.label.unwrap_or_else(|| app.key_label());
        let created = opening::create(&path, &home, world, key, &label, self.chunker)?;
        if let Err(error) = lastgood::gc::probe(&created.repo) {
            app.out.warn(format!(
                "{}; backups are safe here, and gc only with --exclusive, when nobody else works \
                 on the repository",
                Failure::from(error).text()
            ));
        }
        app.out.line(format!("made a repository in {}", path.display()));
        if let Some(file) = &key_file {
            app.out.line(format!("its key is in {}", file.display()));
        }
        app.show_recovery_code(&created.recovery_code);
        let mut fields = Map::new();
        text::put_path(&mut fields, "repository", path_bytes(&path));
        if let Some(file) = &key_file {
            text::put_path(&mut fields, "key_file", path_bytes(file));
        }
        let id = created.repo.config().repository.to_string();
        fields.insert("id".to_owned(), id.into());
        fields.insert("recovery_code".to_owned(), created.recovery_code.as_str().into());
        app.out.json("initialized", fields.into());
        Ok(())
    }
}

fn dry_run(app: &App<'_>, path: &std::path::Path) -> Result<(), Failure> {
    match opening::slot_kinds(path) {
        Err(error) if error.kind() == lastgood::ErrorKind::NoRepository => {
            app.out.line(format!("would make a repository in {}", path.display()));
            let mut fields = json!({ "dry_run": true }).as_object().cloned().unwrap_or_default();
            text::put_path(&mut fields, "repository", path_bytes(path));
            app.out.json("initialized", fields.into());
            Ok(())
        }
        Err(error) => Err(error.into()),
        Ok(_) => {
            let message = format!("there is a repository in {} already", path.display());
            Err(Failure::new(Code::Failed, message))
        }
    }
}

fn chunker(text: &str) -> Result<ChunkerParams, String> {
    let (name, size) = match text.split_once(':') {
        Some((name, size)) => {
            let size: lastgood::select::ByteSize =
                size.parse().map_err(|error: lastgood::select::ByteSizeError| error.to_string())?;
            (name, Some(u32::try_from(size.0).map_err(|_| "the size is too large")?))
        }
        None => (text, None),
    };
    let params = match name {
        "min-aes" => ChunkerParams::MinAes { target: size.unwrap_or(32 << 10) },
        "fixed" => ChunkerParams::Fixed { block: size.unwrap_or(64 << 10) },
        _ => {
            return Err("write min-aes or fixed, with :SIZE behind it for another mean".to_owned());
        }
    };
    params.validate().map_err(|error| error.to_string())
}
