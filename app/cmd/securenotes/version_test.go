package main

import (
	"bytes"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

func TestVersionFlag(t *testing.T) {
	var out bytes.Buffer
	root := command()
	root.SetArgs([]string{"--version"})
	root.SetOut(&out)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "securenotes version "+config.Version()+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
