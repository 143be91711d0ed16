//! A physical function of this process. Its registers and VFs are in `function`, what others hold of it in
//! `handle`, where it is in `placement`, what its author writes in `author`.

mod author;
mod function;
mod handle;
mod placement;
mod virtual_functions;

pub use author::{PhysicalFunction, VirtualFunctionLayout, VirtualFunctionSource};
pub use handle::{EmulatedPf, PfOptions};
pub use placement::{Placement, PlacementError};
pub use virtual_functions::{VirtualFunction, VirtualFunctions};
