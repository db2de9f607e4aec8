// Package vm runs real kernels in QEMU guests: for the demonstration, for tests, and to rehearse an update.
//
// A guest is a Debian cloud kernel (FindKernel), an initramfs made here (Initramfs), an ext4 disk at /data (CreateDisk), and
// a wire to a network namespace of the host (Net), so that a real Linux TCP peer talks to it. QEMU emulates (TCG): nothing
// of the host's own virtualisation is needed, and a boot takes some five seconds.
//
//	k, err := vm.FindKernel("6.1")
//	err = vm.BuildInit(ctx, "/tmp/x/guest-init")
//	err = vm.BuildProgram(ctx, "./cmd/kup", "/tmp/x/kup")
//	root := vm.Initramfs{
//		Kernel: k, Init: "/tmp/x/guest-init",
//		Programs: []string{"/usr/bin/memcached", "/bin/bash"},    // with their shared libraries
//		Files: map[string]string{"/bin/kup": "/tmp/x/kup"},
//	}
//	err = root.Write("/tmp/x/initrd-6.1")
//	next := root                                                // the same files under another kernel
//	next.Kernel, err = vm.FindKernel("6.12")
//	kernel, initrd, err := vm.WriteBootFiles("/tmp/x/disk", next) // /data/boot/vmlinuz-..., /data/boot/initrd-...
//	err = vm.CreateDisk(ctx, "/tmp/x/disk.ext4", 1024, "/tmp/x/disk")
//	net, err := vm.NewNet()
//	g, err := vm.Start(ctx, vm.Config{Kernel: k, Initramfs: "/tmp/x/initrd-6.1", Disk: "/tmp/x/disk.ext4", Net: net, Log: "console.log"})
//	defer g.Close()
//	_, err = g.Output(ctx, "kup", "run", "--name", "cache", "--", "memcached", "-u", "root")
//	conn, err := net.Dial(ctx, "tcp", vm.GuestAddr+":11211")
//	_, err = g.Run(ctx, "kup", "update", "--kernel", kernel, "--initrd", initrd) // ErrRebooted says that it went
//	boot, err := g.WaitBoot(ctx, 2)                             // boot.Release, boot.Init, boot.Ready, boot.Trouble
//
// Tests use package vmtest, which does these steps with a test's own means.
//
// # Inside
//
// The guest's pid 1 is cmd/guest-init; see there for the order of its start-up, and for what it hands over to `kup boot`.
// Its marks on the console ("kup-guest: disk mounted uptime=3.94") are in the log and in Guest.Marks. Commands, their output
// and exit codes, and files go over a virtio serial port (fast, and no load for the emulator) in the format of package wire, which finds its feet again after
// every kexec: Guest.Run waits for the agent of the running kernel, and fails with ErrRebooted when that kernel goes.
//
// # Words
//
//   - boot: one kernel's life in a guest. Boot 1 is the one that QEMU starts; a kexec starts the next.
//   - wire: the tap device between the host's namespace (HostAddr, HostAddr6) and the guest's eth0 (GuestAddr, GuestAddr6).
//   - line: the serial port between agent and host. Also the first two numbers of a kernel's release: "6.12".
//
// # Nothing stays behind
//
// QEMU gets SIGKILL from the kernel when the thread that started it ends, and thus with the process, however that ends. The
// network namespace has no name, and ends with its last descriptor and process; the tap device lives in it. The agent's
// socket is unlinked as soon as QEMU has connected. What remains are the files that the caller named.
package vm
