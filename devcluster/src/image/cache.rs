//! What was built once is kept: archives under the user's cache folder, named by what they were made from.
//!
//! Safe between processes: a file lock lets one build while the others wait for it, and an archive
//! appears under its name only when it is whole. Knows nothing about what is built.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::{Error, Progress, io_error, oci};

/// A folder of finished archives.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's own: `${XDG_CACHE_HOME:-~/.cache}/dbclaim/devcluster/images`.
    pub(crate) fn of_user() -> Result<Self, Error> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .ok_or(Error::NoCacheFolder)?;
        Ok(Self::at(base.join("dbclaim/devcluster/images")))
    }

    /// One at a place of the caller's choice.
    pub(crate) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The archive `name` made from `recipe`; if there is none yet, `build` makes it.
    ///
    /// `build` gets an empty scratch folder that is removed afterwards, and the path at which it has to
    /// leave the archive.
    pub(crate) fn get_or_build(
        &self,
        name: &str,
        recipe: &str,
        progress: Progress<'_>,
        build: impl FnOnce(&Path, &Path, Progress<'_>) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let key = cache_key(recipe);
        let finished = self.folder.join(format!("{name}-{key}.tar"));
        if finished.exists() {
            return Ok(finished);
        }
        fs::create_dir_all(&self.folder).map_err(io_error("create", &self.folder))?;
        let _lock = lock(&self.folder.join(format!("{name}-{key}.lock")), name, progress)?;
        if finished.exists() {
            return Ok(finished);
        }
        let scratch = self.folder.join(format!("{name}-{key}.partial"));
        // With the lock in hand, a scratch folder can only be what a killed run left.
        remove_folder(&scratch)?;
        fs::create_dir(&scratch).map_err(io_error("create", &scratch))?;
        let partial = scratch.join("image.tar");
        let outcome = build(&scratch, &partial, progress).and_then(|()| {
            fs::rename(&partial, &finished).map_err(io_error("move into the cache", &partial))
        });
        remove_folder(&scratch)?;
        outcome.map(|()| finished)
    }
}

/// What stands for a recipe in an archive's name: twelve hexadecimal digits.
pub(crate) fn cache_key(recipe: &str) -> String {
    oci::sha256_of_bytes(recipe.as_bytes()).chars().take(12).collect()
}

/// The lock is held until the returned file is dropped, also when the process dies.
fn lock(path: &Path, name: &str, progress: Progress<'_>) -> Result<File, Error> {
    let file = File::create(path).map_err(io_error("create the lock file", path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => progress(&format!("waiting for another build of {name}")),
        Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
    }
    file.lock().map_err(io_error("lock", path))?;
    Ok(file)
}

fn remove_folder(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the folder, without the lock files.
    fn names(folder: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension() != Some("lock".as_ref()))
            .collect()
    }

    fn write(contents: &'static str) -> impl FnOnce(&Path, &Path, Progress<'_>) -> Result<(), Error> {
        move |_, out, _| fs::write(out, contents).map_err(io_error("write", out))
    }

    #[test]
    fn the_same_recipe_is_built_once_and_another_one_anew() {
        let folder = crate::image::test_folder("cache-once");
        let cache = Cache::at(folder.clone());
        let get = |recipe, contents| {
            cache
                .get_or_build("a", recipe, &mut |_| (), write(contents))
                .unwrap()
        };
        let first = get("recipe", "first");
        assert_eq!(get("recipe", "second"), first);
        assert_eq!(fs::read_to_string(&first).unwrap(), "first");
        assert_eq!(fs::read_to_string(get("other recipe", "third")).unwrap(), "third");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_can_be_repeated() {
        let folder = crate::image::test_folder("cache-failed");
        let cache = Cache::at(folder.clone());
        let half = |_: &Path, out: &Path, _: Progress<'_>| {
            fs::write(out, "half").unwrap();
            Err(Error::NoCacheFolder)
        };
        assert!(cache.get_or_build("a", "recipe", &mut |_| (), half).is_err());
        assert_eq!(names(&folder), Vec::<PathBuf>::new());
        cache
            .get_or_build("a", "recipe", &mut |_| (), write("whole"))
            .unwrap();
        assert_eq!(names(&folder).len(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_a_killed_build_left_is_not_taken_for_an_image() {
        let folder = crate::image::test_folder("cache-killed");
        let cache = Cache::at(folder.clone());
        let path = cache
            .get_or_build("a", "recipe", &mut |_| (), write("whole"))
            .unwrap();
        fs::remove_file(&path).unwrap();
        let scratch = path.with_extension("partial");
        fs::create_dir(&scratch).unwrap();
        fs::write(scratch.join("image.tar"), "half").unwrap();
        let empty = |scratch: &Path, out: &Path, _: Progress<'_>| {
            assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
            fs::write(out, "whole").map_err(io_error("write", out))
        };
        assert_eq!(
            cache.get_or_build("a", "recipe", &mut |_| (), empty).unwrap(),
            path
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_second_builder_says_that_it_waits_and_then_takes_what_the_first_one_built() {
        let folder = crate::image::test_folder("cache-wait");
        let (waiting, seen) = std::sync::mpsc::channel();
        let second_folder = folder.clone();
        let mut second = None;
        let first = Cache::at(folder.clone()).get_or_build("a", "recipe", &mut |_| (), |_, out, _| {
            second = Some(std::thread::spawn(move || {
                let mut tell = |step: &str| waiting.send(step.to_owned()).unwrap();
                Cache::at(second_folder)
                    .get_or_build("a", "recipe", &mut tell, write("second"))
                    .unwrap()
            }));
            let deadline = std::time::Duration::from_secs(20);
            assert_eq!(
                seen.recv_timeout(deadline).unwrap(),
                "waiting for another build of a"
            );
            fs::write(out, "first").map_err(io_error("write", out))
        });
        assert_eq!(second.unwrap().join().unwrap(), first.unwrap());
        fs::remove_dir_all(folder).unwrap();
    }
}
