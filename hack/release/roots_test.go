package main

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// TestRoots checks that the bundle contains every root without a constraint, and none with one.
func TestRoots(t *testing.T) {
	want := map[string]bool{}
	constrained := 0
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			want[string(root.Certificate)] = true
		} else {
			constrained++
		}
	}
	if len(want) < 100 {
		t.Fatalf("the module has only %d roots", len(want))
	}
	t.Logf("%d roots, %d left out", len(want), constrained)
	rest, got := roots(), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		got++
		if !want[string(block.Bytes)] {
			t.Error("the bundle contains a root that has a constraint, or that is not in the module")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Error(err)
		}
	}
	if got != len(want) {
		t.Errorf("%d roots, want %d", got, len(want))
	}
}
