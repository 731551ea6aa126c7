// Command operator runs the controllers of SecureNotes. Its subcommands vault-setup and retained
// are for the Vault administrator.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	// The image has no time zone database; schedules name time zones.
	_ "time/tzdata"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/app/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "operator",
		Short:         "Runs SecureNotes on Kubernetes",
		Version:       config.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(managerCommand(), setupCommand(), retainedCommand())
	return root
}
