package main

import (
	"testing"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/server"
)

// TestAPIMemoryIsSetAside: what the API lets its requests hold is in the memory budget of the process.
func TestAPIMemoryIsSetAside(t *testing.T) {
	if httpapi.MaxMemory > server.APIMemory {
		t.Errorf("requests may hold %d bytes, and %d are set aside", httpapi.MaxMemory, server.APIMemory)
	}
}
