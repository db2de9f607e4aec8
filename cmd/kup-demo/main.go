// Kup-demo shows a live change of the kernel under load, in a QEMU guest. `make demo` prepares what it needs and starts it.
//
// It exits with 0 only if every item and every connection of the clients has come through.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/kup-project/kup/internal/demo"
	"github.com/kup-project/kup/internal/kernel"
)

func main() {
	c := demo.Default()
	flag.IntVar(&c.Items, "items", c.Items, "how many `items` memcached holds")
	flag.IntVar(&c.ItemBytes, "bytes", c.ItemBytes, "size of an item, `bytes`")
	flag.IntVar(&c.Connections, "connections", c.Connections, "how many `connections` the clients have")
	flag.StringVar(&c.OutDir, "out", c.OutDir, "`folder` for the plots and the guest's console log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), kernel.TerminatingSignals...)
	defer stop()
	if err := demo.Run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "kup-demo:", err)
		os.Exit(1)
	}
}
