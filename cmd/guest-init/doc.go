// Guest-init is pid 1 of the QEMU guests of internal/vm.
//
// It brings a bare kernel to the point where kup and its applications can live: file systems, modules, the disk at /data.
// Then it hands over to `kup boot`, which closes the network for what it restores, lets /bin/network-up bring the interface
// up, and restores. All the while its agent answers on a virtio serial port, so that whoever drives the guest can run
// commands and read files, before the network is up and across kernels.
//
// The kernel command line tells it what the guest has:
//
//	kup.data=/dev/vda          a disk with an ext4 file system, mounted at /data
//	kup.net=ADDRESS/BITS,...   what network-up gives to eth0
//	kup.boot=OPTION,...        options for kup boot, as --eager
//
// Its marks on the console, each with the seconds since the kernel started, read "kup-guest: WHAT uptime=2.31".
package main
