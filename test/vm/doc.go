// Package vm has the tests that need several kernels: applications under kup's care live through updates in a QEMU guest.
package vm
