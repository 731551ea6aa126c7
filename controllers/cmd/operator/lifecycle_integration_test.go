//go:build integration

package main

import (
	"testing"
)

// TestOperator starts one API server and one Vault for all of its parts; each part has a namespace
// of its own.
func TestOperator(t *testing.T) {
	c := startCluster(t)
	c.startOperator(t)
	t.Run("admission", func(t *testing.T) { testAdmission(t, c) })
}
