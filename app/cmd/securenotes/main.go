// Command securenotes is the notes service and its Jobs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Collect garbage before the container's memory limit is reached. Outside a cgroup with a limit
	// there is nothing to set.
	_, _ = memlimit.Set()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := command()
	root.SetArgs(args)
	return conclude(root.ExecuteContext(ctx))
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "securenotes",
		Short:         "An HTTPS service for encrypted notes, and the Jobs that keep them encrypted",
		Version:       config.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(serveCommand(), migrateCommand(), reencryptCommand(), verifyCommand(), backupCommand(), restoreCommand(), auditCommand())
	return root
}
