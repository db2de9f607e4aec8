// Package demo shows a live change of the kernel under load: `make demo`.
//
// A guest on Linux 6.1 runs memcached; clients outside of it get and set items over many connections; the guest goes to Linux 6.12
// and back. At the end every item and every connection is checked. Package load has the clients.
package demo
