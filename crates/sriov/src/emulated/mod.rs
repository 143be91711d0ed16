//! A physical function of this process. Its registers are in `overlay`, what they do in `function`, what it shares
//! with its holders in `shared`, what they hold in `handle`; how it is created in `options`, where it is
//! in `placement`, what its author writes in `author`.

mod author;
mod authored;
mod caught;
mod control;
mod function;
mod handle;
mod making;
mod options;
mod overlay;
mod placement;
mod shared;
mod vf_function;
mod virtual_functions;

pub use author::{PhysicalFunction, VirtualFunctionLayout, VirtualFunctionSource};
pub use control::PfPublisher;
pub use handle::EmulatedPf;
pub use options::{PfError, PfOptions};
pub use placement::{Placement, PlacementError};
pub use virtual_functions::{VirtualFunction, VirtualFunctions};
