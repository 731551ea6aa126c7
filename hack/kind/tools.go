package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// toolSets are the sets that `tools` builds. `tools NAME...` builds single programs.
var toolSets = map[string][]toolchain.Program{
	"cluster":     toolchain.ForCluster,
	"offline":     toolchain.ForOffline,
	"integration": toolchain.ForIntegration,
	"development": toolchain.ForDevelopment,
}

func toolsCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "tools [program or set]...",
		Short: "build the pinned tools into the cache (default: all; sets: cluster, offline, integration, development)",
	}
	cmd.Flags().BoolVar(&quiet, "path", false, "print the path of the one program named, building it first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := cmd.OutOrStdout()
		if quiet {
			out = cmd.ErrOrStderr() // standard output has only the path
		}
		a, err := newApp(out)
		if err != nil {
			return err
		}
		if quiet {
			return a.printPath(cmd.Context(), args)
		}
		var wanted []toolchain.Program
		if len(args) == 0 {
			args = []string{"integration", "cluster", "offline", "development"}
		}
		for _, name := range args {
			if set, ok := toolSets[name]; ok {
				wanted = append(wanted, set...)
				continue
			}
			if !a.tools.Known(toolchain.Program(name)) {
				return fmt.Errorf("no tool or set of tools is called %q", name)
			}
			wanted = append(wanted, toolchain.Program(name))
		}
		return a.Step(cmd.Context(), "Tools", func(ctx context.Context) (string, error) {
			note, err := a.tools.Ensure(ctx, wanted...)
			if err != nil {
				return "", err
			}
			_, err = a.tools.LinkEnvtest()
			return note, err
		})
	}
	return cmd
}

// printPath prints the path of one tool, for the Makefile.
func (a *app) printPath(ctx context.Context, args []string) error {
	if len(args) != 1 || !a.tools.Known(toolchain.Program(args[0])) {
		return fmt.Errorf("--path needs the name of one tool")
	}
	p := toolchain.Program(args[0])
	if _, err := a.tools.Ensure(ctx, p); err != nil {
		return err
	}
	fmt.Println(a.tools.Path(p))
	return nil
}
