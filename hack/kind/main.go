// Command kind installs SecureNotes on a real Kubernetes cluster on this machine, demonstrates it,
// runs the test suites against it, and removes everything again. The Makefile calls it.
//
// The cluster runs the images of an image lock. If a registry answers, it is upstream's,
// images.lock.yaml. Otherwise hack/offline builds the images and writes a lock. Start reading at
// (*app).up. docs/test-cluster.md describes both ways.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Fprintln(os.Stderr, "\ninterrupted; the next `make run` continues, `make down` removes everything")
		os.Exit(130)
	default:
		if !errors.Is(err, errTestsFailed) {
			fmt.Fprintln(os.Stderr, "\nerror:", err)
		}
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "kind",
		Short:         "SecureNotes on a real cluster on this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		command("run", "install everything, and show what clients do and a key rotation", (*app).run),
		command("cluster", "start a cluster with cert-manager, Vault and PostgreSQL, without SecureNotes", (*app).clusterOnly),
		command("images", "build the two images and load them on the cluster's nodes", (*app).imagesOnly),
		command("charts", "check upstream's charts with the cluster's API server, without installing them", (*app).checkCharts),
		command("lock", "look up the digests of upstream's images and write hack/kind/images.lock.yaml", (*app).fillLock),
		command("down", "remove everything that was started or created", (*app).down),
		toolsCommand(),
		testCommand(),
	)
	return root
}

// command returns a subcommand whose work holds the machine's lock.
func command(use, short string, work func(*app, context.Context) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		a, err := newApp(cmd.OutOrStdout())
		if err != nil {
			return err
		}
		unlock, err := a.layout.Lock()
		if err != nil {
			return err
		}
		defer unlock()
		return work(a, cmd.Context())
	}}
}
