package main

import (
	"testing"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/server"
)

// TestAPIMemoryIsSetAside checks that the process's memory budget includes what requests may hold.
func TestAPIMemoryIsSetAside(t *testing.T) {
	if httpapi.MaxMemory > server.APIMemory || httpapi.RequestMemory > server.RequestMemory {
		t.Errorf("each request may hold %d bytes and all together %d more; set aside are %d and %d",
			httpapi.RequestMemory, httpapi.MaxMemory, server.RequestMemory, server.APIMemory)
	}
}
