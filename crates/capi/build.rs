//! Gives the shared library its name for the dynamic linker, and lets it stay once it is loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcomputecore.so");
    // Its threads, and its handler of SIGBUS, run its code until the process ends: dlclose must not
    // take that away.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
