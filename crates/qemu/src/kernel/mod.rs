//! A guest kernel: its image, its release, and its modules in the order they are loaded.
//!
//! Debian's packages have no `modules.dep` before `depmod` ran at installation, so dependencies
//! are read from the modules themselves. Loading them is the guest's.

mod module;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::error::at;
use crate::{Error, Result};

use module::Information;
pub use module::Module;

/// The deepest directory tree below `lib/modules/<release>` that is walked.
const DEPTH_LIMIT: usize = 16;

/// A guest kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    release: String,
    vmlinuz: PathBuf,
    modules: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Kernel {
    /// The kernel of a bundle in the cache, for example [`Bundle::KERNEL_CLOUD`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFetched`] when the bundle is not there, and as [`Kernel::in_root`].
    pub fn cached(cache: &Cache, bundle: &Bundle) -> Result<Self> {
        Self::in_root(cache.require(bundle)?.root())
    }

    /// The one kernel of a tree that has `boot/vmlinuz-<release>` and `lib/modules/<release>` (or
    /// `usr/lib/modules/<release>`).
    ///
    /// # Errors
    ///
    /// [`Error::NoKernel`] when there is none or more than one, [`Error::Io`] when the tree cannot
    /// be read.
    pub fn in_root(root: &Path) -> Result<Self> {
        let boot = root.join("boot");
        let mut found = Vec::new();
        for (name, path) in entries(&boot)? {
            if let Some(release) = name.strip_prefix("vmlinuz-") {
                found.push((release.to_owned(), path));
            }
        }
        let none = |reason: String| Error::NoKernel {
            root: root.to_owned(),
            reason,
        };
        let (release, vmlinuz) = match (found.pop(), found.pop()) {
            (Some(one), None) => one,
            (None, _) => return Err(none("boot has no vmlinuz-*".to_owned())),
            (Some((one, _)), Some((other, _))) => {
                return Err(none(format!("boot has both {one} and {other}")));
            }
        };
        let directory = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|path| root.join(path).join(&release))
            .find(|path| path.is_dir())
            .ok_or_else(|| none(format!("there are no modules of {release}")))?;
        let mut modules = BTreeMap::new();
        walk(&directory, 0, &mut modules)?;
        let built_in = built_in(&directory.join("modules.builtin"))?;
        Ok(Self {
            release,
            vmlinuz,
            modules,
            built_in,
        })
    }

    /// What `uname -r` says in the guest, for example `6.12.107+deb13-cloud-amd64`.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The image that QEMU's `-kernel` takes.
    #[must_use]
    pub fn vmlinuz(&self) -> &Path {
        &self.vmlinuz
    }

    /// The named modules with all they need, in the order in which they are to be loaded, each
    /// once. What is built into the kernel is left out. `-` and `_` are the same in names.
    ///
    /// # Errors
    ///
    /// [`Error::NoModule`] when the kernel does not have one of them, [`Error::BadModule`] when
    /// a file is damaged or packed in a way that is not known here.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Order {
            kernel: self,
            entered: BTreeSet::new(),
            loaded: Vec::new(),
        };
        for name in names {
            order.require(&normal(name))?;
        }
        Ok(order.loaded)
    }

    /// Whether the kernel has a module, built in or loadable.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let name = normal(name);
        self.built_in.contains(&name) || self.modules.contains_key(&name)
    }
}

/// Modules are entered once, before what they need, and loaded after it.
struct Order<'a> {
    kernel: &'a Kernel,
    entered: BTreeSet<String>,
    loaded: Vec<Module>,
}

impl Order<'_> {
    fn require(&mut self, name: &str) -> Result<()> {
        if self.kernel.built_in.contains(name) || !self.entered.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self
            .kernel
            .modules
            .get(name)
            .ok_or_else(|| Error::NoModule {
                module: name.to_owned(),
                kernel: self.kernel.release.clone(),
            })?;
        let module = Module::new(name.to_owned(), path.clone());
        let Information {
            depends,
            before,
            after,
        } = module.information()?;
        // Soft dependencies are wishes: what this kernel does not have is left out.
        for wish in before {
            self.wish(&wish)?;
        }
        for dependency in depends {
            self.require(&dependency)?;
        }
        self.loaded.push(module);
        for wish in after {
            self.wish(&wish)?;
        }
        Ok(())
    }

    fn wish(&mut self, name: &str) -> Result<()> {
        if self.kernel.modules.contains_key(name) {
            self.require(name)
        } else {
            Ok(())
        }
    }
}

/// A module's name as the kernel compares it.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The module that a file holds, `None` when it is not a module's.
fn module_name(file: &str) -> Option<String> {
    let (name, rest) = file.split_once(".ko")?;
    (rest.is_empty() || [".xz", ".gz", ".zst"].contains(&rest)).then(|| normal(name))
}

fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at("reading", directory))? {
        let entry = entry.map_err(at("reading", directory))?;
        found.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    found.sort();
    Ok(found)
}

fn walk(directory: &Path, depth: usize, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for (name, path) in entries(directory)? {
        let kind = path
            .symlink_metadata()
            .map_err(at("reading", &path))?
            .file_type();
        if kind.is_dir() && depth < DEPTH_LIMIT {
            walk(&path, depth + 1, modules)?;
        } else if let Some(module) = kind.is_file().then(|| module_name(&name)).flatten() {
            modules.insert(module, path);
        }
    }
    Ok(())
}

fn built_in(path: &Path) -> Result<BTreeSet<String>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let name = |line: &str| module_name(line.rsplit('/').next()?);
            Ok(text.lines().filter_map(name).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(at("reading", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use module::testing::elf_module;

    fn kernel(modules: &[(&str, &[&str])]) -> (tempfile::TempDir, Kernel) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/lib/modules/6.1-test/kernel/drivers");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir(root.path().join("boot")).unwrap();
        fs::write(root.path().join("boot/vmlinuz-6.1-test"), "").unwrap();
        fs::write(
            directory.join("../../modules.builtin"),
            "kernel/drivers/pci/pci-stub.ko\n",
        )
        .unwrap();
        for (name, information) in modules {
            fs::write(
                directory.join(format!("{name}.ko")),
                elf_module(information),
            )
            .unwrap();
        }
        let kernel = Kernel::in_root(root.path()).unwrap();
        (root, kernel)
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(Module::name).collect()
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_each_once() {
        let (_root, kernel) = kernel(&[
            (
                "vfio",
                &[
                    "depends=",
                    "softdep=post: vfio_iommu_type1 vfio_iommu_spapr_tce",
                ],
            ),
            ("vfio_iommu_type1", &["depends=vfio"]),
            ("vfio-pci", &["depends=vfio-pci-core,vfio"]),
            ("vfio-pci-core", &["depends=vfio,irqbypass"]),
            ("irqbypass", &["license=GPL"]),
        ]);
        let loaded = kernel
            .modules(&["vfio_pci", "vfio-pci", "irqbypass"])
            .unwrap();
        assert_eq!(
            names(&loaded),
            [
                "vfio",
                "vfio_iommu_type1",
                "irqbypass",
                "vfio_pci_core",
                "vfio_pci"
            ]
        );
    }

    #[test]
    fn built_in_modules_are_not_loaded_and_unknown_ones_are_named() {
        let (_root, kernel) = kernel(&[
            ("uio", &["depends=pci-stub"]),
            ("broken", &["depends=missing"]),
        ]);
        assert_eq!(
            names(&kernel.modules(&["pci_stub", "uio"]).unwrap()),
            ["uio"]
        );
        assert!(kernel.has("pci-stub") && kernel.has("uio") && !kernel.has("vfio"));
        let error = kernel.modules(&["broken"]).unwrap_err();
        assert!(
            matches!(&error, Error::NoModule { module, .. } if module == "missing"),
            "{error}"
        );
    }

    #[test]
    fn modules_that_need_each_other_do_not_hang() {
        let (_root, kernel) = kernel(&[("a", &["depends=b"]), ("b", &["depends=a"])]);
        assert_eq!(names(&kernel.modules(&["a"]).unwrap()), ["b", "a"]);
    }

    #[test]
    fn a_tree_with_two_kernels_is_refused() {
        let (root, _kernel) = kernel(&[]);
        fs::write(root.path().join("boot/vmlinuz-6.2"), "").unwrap();
        let error = Kernel::in_root(root.path()).unwrap_err();
        assert!(matches!(error, Error::NoKernel { .. }), "{error}");
    }
}
