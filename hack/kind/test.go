package main

import (
	"errors"
	"github.com/spf13/cobra"
)

var errTestsFailed = errors.New("tests failed")

func testCommand() *cobra.Command { return &cobra.Command{Use: "test"} }
