package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// StartHAProxy starts an HAProxy that forwards TCP connections to a server and sends the client's
// address in the PROXY protocol, version 2. HAProxy connects from 127.0.0.1. StartHAProxy returns
// the address that HAProxy listens on, host:port.
func StartHAProxy(t testing.TB, server string) string {
	t.Helper()
	address := FreeAddress(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, `global
  maxconn 4000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
frontend clients
  bind %s
  default_backend service
backend service
  server service %s source 127.0.0.1 send-proxy-v2
`, address, server), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := start(t, dir, "haproxy", syscall.SIGTERM, exec.Command(binary(t, HAProxyVariable), "-db", "-f", file))
	haproxy.await(t, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return address
}
