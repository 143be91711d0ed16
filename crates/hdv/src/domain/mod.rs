//! A PCIe hierarchy of functions behind one endpoint: towards each function inside it, what a VMM is to a
//! device on a socket.
//!
//! A function does not know that it is here: it has its slot, its life and its handles as on a socket.

mod attachment;
mod messages;
mod registers;
