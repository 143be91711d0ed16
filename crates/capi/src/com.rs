//! COM objects: how those of others are called, and what ours have in common. The interfaces' own
//! functions are in `proxy`.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::error::{Failure, codes};
use crate::guard::{call_out, value};
use crate::types::{Guid, Hresult};

/// `IUnknown`'s functions, with which every table of functions begins.
#[repr(C)]
pub(crate) struct UnknownTable {
    pub(crate) query_interface:
        unsafe extern "C-unwind" fn(*mut c_void, *const Guid, *mut *mut c_void) -> Hresult,
    pub(crate) add_ref: unsafe extern "C-unwind" fn(*mut c_void) -> u32,
    pub(crate) release: unsafe extern "C-unwind" fn(*mut c_void) -> u32,
}

/// `IID_IUnknown`.
pub(crate) const IID_UNKNOWN: Guid = Guid {
    data1: 0,
    data2: 0,
    data3: 0,
    data4: [0xc0, 0, 0, 0, 0, 0, 0, 0x46],
};

/// A reference to an interface of somebody's object; given back when dropped.
pub(crate) struct Reference(NonNull<c_void>);

impl Reference {
    /// Asks an object for an interface.
    ///
    /// # Safety
    /// `object` is a COM object.
    pub(crate) unsafe fn query(
        object: NonNull<c_void>,
        interface: &Guid,
        name: &str,
    ) -> Result<Self, Failure> {
        let mut found = std::ptr::null_mut();
        // SAFETY: a COM object, which begins with its table; the places live until after the call.
        let result = call_out("IUnknown::QueryInterface", || unsafe {
            let table = *object.cast::<*const UnknownTable>().as_ptr();
            ((*table).query_interface)(object.as_ptr(), interface, &raw mut found)
        });
        if result < 0 {
            return Err(Failure::new(
                result,
                format!("the object has no interface {name}: QueryInterface gave {result:#010x}"),
            ));
        }
        NonNull::new(found).map(Self).ok_or_else(|| {
            Failure::new(
                codes::E_NOINTERFACE,
                format!("the object says that it has {name}, and gives none"),
            )
        })
    }

    /// Takes over a reference that is already counted.
    pub(crate) fn counted(object: NonNull<c_void>) -> Self {
        Self(object)
    }

    pub(crate) fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// Gives the reference away: whoever gets the pointer releases it.
    pub(crate) fn into_raw(self) -> *mut c_void {
        let object = self.as_ptr();
        std::mem::forget(self);
        object
    }

    /// The table of functions.
    ///
    /// # Safety
    /// The interface's table begins with a `T`.
    pub(crate) unsafe fn table<T>(&self) -> *const T {
        // SAFETY: an interface begins with its table.
        unsafe { *self.0.cast::<*const T>().as_ptr() }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: a COM object, of which one reference is ours to give back.
        call_out("IUnknown::Release", || unsafe {
            ((*self.table::<UnknownTable>()).release)(self.as_ptr())
        });
    }
}

/// A reference to an object of ours.
pub(crate) struct Ours<C: Class>(Reference, PhantomData<C>);

impl<C: Class> Ours<C> {
    pub(crate) fn content(&self) -> &C {
        // SAFETY: only objects of ours have the table that it was recognised by, and the reference keeps it.
        unsafe { &(*self.0.as_ptr().cast::<Object<C>>()).content }
    }
}

/// What an object of ours is.
pub(crate) trait Class: Send + Sync + 'static {
    /// Its table of functions, which begins with an [`UnknownTable`].
    type Table: Sync + 'static;
    /// The table.
    const TABLE: &'static Self::Table;
    /// The interfaces that the table is, `IUnknown` aside.
    const INTERFACES: &'static [Guid];
}

/// An object of ours: its table first, as COM wants it.
#[repr(C)]
pub(crate) struct Object<C: Class> {
    table: *const C::Table,
    references: AtomicU32,
    pub(crate) content: C,
}

impl<C: Class> Object<C> {
    /// A new object with one reference.
    pub(crate) fn create(content: C) -> Reference {
        let object = Box::into_raw(Box::new(Self {
            table: C::TABLE,
            references: AtomicU32::new(1),
            content,
        }));
        // SAFETY: from a box, so not null.
        Reference::counted(unsafe { NonNull::new_unchecked(object.cast()) })
    }

    /// Ours, if it is of this class: what an object gives for an interface that only objects of ours have, also through
    /// somebody else's that passes questions on.
    ///
    /// # Safety
    /// `object` is a COM object.
    pub(crate) unsafe fn behind(object: NonNull<c_void>, interface: &Guid) -> Option<Ours<C>> {
        // SAFETY: by the contract.
        let reference = unsafe { Reference::query(object, interface, "of this library") }.ok()?;
        // SAFETY: a COM object; whose table it has says what it is.
        let table = unsafe { reference.table::<C::Table>() };
        std::ptr::eq(table, C::TABLE).then_some(Ours(reference, PhantomData))
    }

    /// `IUnknown`'s functions for this class.
    pub(crate) const UNKNOWN: UnknownTable = UnknownTable {
        query_interface: Self::query_interface,
        add_ref: Self::add_ref,
        release: Self::release,
    };

    unsafe extern "C-unwind" fn query_interface(
        this: *mut c_void,
        interface: *const Guid,
        place: *mut *mut c_void,
    ) -> Hresult {
        if place.is_null() {
            return codes::E_POINTER;
        }
        // SAFETY: the caller's place, by the contract of COM.
        let place = unsafe { &mut *place };
        *place = std::ptr::null_mut();
        if interface.is_null() {
            return codes::E_POINTER;
        }
        // SAFETY: as above.
        let interface = unsafe { interface.read_unaligned() };
        if interface == IID_UNKNOWN || C::INTERFACES.contains(&interface) {
            // SAFETY: an object of this class, whose table this function is in.
            unsafe { Self::add_ref(this) };
            *place = this;
            codes::S_OK
        } else {
            codes::E_NOINTERFACE
        }
    }

    unsafe extern "C-unwind" fn add_ref(this: *mut c_void) -> u32 {
        // SAFETY: as for `query_interface`, and the caller has a reference.
        let references = unsafe { &(*this.cast::<Self>()).references };
        references.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    unsafe extern "C-unwind" fn release(this: *mut c_void) -> u32 {
        // SAFETY: as for `add_ref`.
        let references = unsafe { &(*this.cast::<Self>()).references };
        let left = references.fetch_sub(1, Ordering::Release).wrapping_sub(1);
        if left == 0 {
            // What others did with the object comes before its end.
            fence(Ordering::Acquire);
            // SAFETY: that was the last reference to what `create` boxed.
            value((), || drop(unsafe { Box::from_raw(this.cast::<Self>()) }));
        }
        left
    }
}
