//! Rotation: a log that grew too large is set aside, older ones compressed, the oldest removed.

use crate::api::cri::ContainerRuntime;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How large, and how many of a container (the current one included).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_size: u64,
    pub max_files: u32,
}

/// Rotate one container's log if it is due. `id`: whose log is opened anew.
pub async fn rotate(runtime: &dyn ContainerRuntime, id: &str, path: &Path, limits: Limits) -> Result<(), String> {
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("look at {}: {error}", path.display())),
    };
    if size < limits.max_size {
        return Ok(());
    }
    let owned = path.to_owned();
    let prepared =
        tokio::task::spawn_blocking(move || tidy(&owned, limits)).await.map_err(|error| error.to_string())?;
    prepared.map_err(|error| format!("rotate {}: {error}", path.display()))?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", path.display()));
    fs::rename(path, &aside).map_err(|error| format!("rename {}: {error}", path.display()))?;
    if let Err(error) = runtime.reopen_log(id).await {
        // Still written to the old file: put it back, so that nothing is lost.
        fs::rename(&aside, path).map_err(|error| format!("rename {}: {error}", aside.display()))?;
        return Err(format!("reopen the log of container {id}: {error}"));
    }
    Ok(())
}

/// Compress what was set aside before and make room for one more.
fn tidy(path: &Path, limits: Limits) -> io::Result<()> {
    let mut old = rotated(path)?;
    let keep = (limits.max_files.max(2) - 2) as usize;
    while old.len() > keep {
        fs::remove_file(old.remove(0))?;
    }
    for file in old.iter().filter(|file| file.extension().is_none_or(|kind| kind != "gz")) {
        compress(file)?;
    }
    Ok(())
}

/// Logs set aside, the oldest first; what a compression left half done is removed.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().map(|name| format!("{}.", name.to_string_lossy())).unwrap_or_default();
    let mut out = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with(&name) {
            continue;
        }
        if file.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        } else {
            out.push(entry.path());
        }
    }
    out.sort();
    Ok(out)
}

fn compress(path: &Path) -> io::Result<()> {
    let temporary = PathBuf::from(format!("{}.tmp", path.display()));
    let mut input = File::open(path)?;
    let mut output = flate2::write::GzEncoder::new(File::create(&temporary)?, flate2::Compression::default());
    io::copy(&mut input, &mut output)?;
    output.finish()?.sync_all()?;
    fs::rename(&temporary, format!("{}.gz", path.display()))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn old_logs_are_compressed_and_few() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        fs::write(&path, "now").expect("written");
        for stamp in ["20260101-000001", "20260101-000002", "20260101-000003", "20260101-000004"] {
            fs::write(directory.path().join(format!("0.log.{stamp}")), stamp).expect("written");
        }
        fs::write(directory.path().join("0.log.20260101-000000.tmp"), "half").expect("written");
        tidy(&path, Limits { max_size: 1, max_files: 5 }).expect("tidied");
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let want = ["0.log", "0.log.20260101-000002.gz", "0.log.20260101-000003.gz", "0.log.20260101-000004.gz"];
        assert_eq!(names, want);
        let file = File::open(directory.path().join("0.log.20260101-000004.gz")).expect("opened");
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("decompressed");
        assert_eq!(text, "20260101-000004");
    }
}
