//! The PF as a function: the device's own one with SR-IOV and ARI capabilities added to its config space, and the
//! VFs that the registers bring.
