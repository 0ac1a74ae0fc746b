//! Faults of the machine and of the programs around us, one by one.
