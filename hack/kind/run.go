package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

var errTestsFailed = errors.New("tests failed")

func testCommand() *cobra.Command { return &cobra.Command{Use: "test"} }

func (a *app) run(ctx context.Context) error        { return a.clusterOnly(ctx) }
func (a *app) imagesOnly(ctx context.Context) error { return nil }
