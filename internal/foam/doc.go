// Package foam is file-offset-based address mapping: the contents of one address space in one sparse file.
//
// Words:
//
//   - A window is a range of addresses with a fixed distance to the offsets it has in the file. An address space has few:
//     one for each dense cluster of mappings. Shared memory has one, from 0.
//   - An extent is a run of bytes. A file's extents are the addresses whose contents it holds; all else is a hole, and
//     holes are zeros or were never there.
//   - To punch is to turn an extent into a hole again.
//
// Invariants: an address has one offset for the whole life of a file, so that a later round overwrites what an earlier one
// wrote; windows begin at multiples of 2 MiB in the address space and in the file, so that huge pages of a RAM file system fit
// huge pages of the application; windows overlap neither in addresses nor in offsets.
package foam
