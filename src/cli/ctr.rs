//! `orch ctr`: the images of this node.

use crate::container::image::Progress;
use crate::container::image::control::Client;
use anyhow::{Context, Result, bail};
use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Directory of the node's sockets
    #[arg(long, value_name = "DIR", default_value = "/run/orch", global = true)]
    run_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Images
    #[command(subcommand, visible_aliases = ["image", "i"])]
    Images(Images),
}

#[derive(clap::Subcommand)]
enum Images {
    /// List the images that are here
    #[command(visible_alias = "ls")]
    List {
        /// Only their names
        #[arg(long, short = 'q')]
        quiet: bool,
    },
    /// Import the images of archives: OCI layouts, or what "docker save" writes
    Import {
        /// Archives of this machine
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Pull an image from its registry
    Pull {
        /// Its name: busybox:1.35, registry.example.com/team/app@sha256:…
        #[arg(value_name = "IMAGE")]
        image: String,
        /// Who asks: name, or name:password; a password alone is read from ORCH_REGISTRY_PASSWORD
        #[arg(long, short = 'u', value_name = "USER[:PASSWORD]")]
        user: Option<String>,
    },
    /// Remove images, and the layers that nothing else uses
    #[command(visible_alias = "rm")]
    Remove {
        /// Their names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let client = Client::new(&args.run_dir);
    let Command::Images(command) = &args.command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match command {
            Images::List { quiet } => list(&client, *quiet).await,
            Images::Import { archives } => import(&client, archives).await,
            Images::Pull { image, user } => pull(&client, image, user.as_deref()).await,
            Images::Remove { images } => remove(&client, images).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, quiet: bool) -> Result<()> {
    let mut rows = Vec::new();
    for image in client.list().await? {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            names.push("<none>");
        }
        rows.extend(names.into_iter().map(|name| (name.to_owned(), id.clone(), BinaryBytes(image.size).to_string())));
    }
    rows.sort();
    if quiet {
        rows.iter().for_each(|(name, ..)| println!("{name}"));
        return Ok(());
    }
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default().max("IMAGE".len());
    println!("{:<width$}   {:<12}   SIZE", "IMAGE", "ID");
    for (name, id, size) in rows {
        println!("{name:<width$}   {id:<12}   {size}");
    }
    Ok(())
}

async fn import(client: &Client, archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        // The node reads it, and its working directory is another.
        let path = std::fs::canonicalize(archive).with_context(|| format!("find {}", archive.display()))?;
        let mut bars = Bars::new(&file_name(archive));
        let names = client.import(&path, |progress| bars.show(progress)).await?;
        bars.clear()?;
        names.iter().for_each(|name| println!("{name}"));
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn pull(client: &Client, image: &str, user: Option<&str>) -> Result<()> {
    let credentials = match user {
        None => None,
        Some(user) => Some(match user.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.to_owned()),
            None => match std::env::var("ORCH_REGISTRY_PASSWORD") {
                Ok(password) => (user.to_owned(), password),
                Err(_) => bail!("--user {user}: no password: write {user}:<password>, or set ORCH_REGISTRY_PASSWORD"),
            },
        }),
    };
    let mut bars = Bars::new(image);
    let names = client.pull(image, credentials, |progress| bars.show(progress)).await?;
    bars.clear()?;
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}

async fn remove(client: &Client, images: &[String]) -> Result<()> {
    for image in images {
        client.remove(image).await?;
        println!("{image}");
    }
    Ok(())
}

/// A bar per layer, on a terminal; nothing in a pipe.
struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    layers: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new(what: &str) -> Self {
        let all = MultiProgress::new();
        let whole = all.add(ProgressBar::new_spinner());
        whole.set_message(what.to_owned());
        whole.enable_steady_tick(Duration::from_millis(100));
        Self { all, whole, layers: HashMap::new() }
    }

    fn layer(&mut self, layer: &str) -> &ProgressBar {
        self.layers.entry(layer.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(0));
            let style = ProgressStyle::with_template("  {prefix} {bar:30} {binary_bytes}/{binary_total_bytes} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(layer.to_owned());
            bar
        })
    }

    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Download { layer, bytes, of } => {
                let bar = self.layer(&layer);
                bar.set_length(of);
                bar.set_position(bytes);
            }
            Progress::Unpack { layer } => self.layer(&layer).set_message("unpacking"),
            Progress::Done { layer } => self.layer(&layer).finish_with_message("done"),
        }
    }

    /// Nothing of it stays: what is printed next has lines of its own.
    fn clear(&self) -> Result<()> {
        self.whole.finish_and_clear();
        self.all.clear().context("clear the progress")
    }
}
