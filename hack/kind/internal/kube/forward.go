package kube

import (
	"bufio"
	"context"
	"fmt"
	"regexp"
)

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// Forward forwards a free port of 127.0.0.1 to a port of a pod or service until stop is called.
func (c Client) Forward(ctx context.Context, namespace, target, port string) (address string, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := c.Command("-n", namespace, "port-forward", "--address", "127.0.0.1", target, ":"+port).Exec(ctx)
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() { cancel(); _ = cmd.Wait() }
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := forwarding.FindStringSubmatch(lines.Text()); m != nil {
			go func() { // kubectl prints every connection and must not block
				for lines.Scan() {
					continue
				}
			}()
			return m[1], stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("%s/%s port %s: %w", namespace, target, port, errNoAddress)
}
