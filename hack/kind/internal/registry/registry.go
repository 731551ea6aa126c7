// Package registry finds out whether a container registry can be reached from this machine.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// patience bounds the question: a machine without a way out must not wait for it.
const patience = 4 * time.Second

// hub is where kind's node images are published.
const hub = "https://registry-1.docker.io/v2/"

// Answers asks Docker Hub for its API version. Anything but a registry's answer, such as a proxy's
// refusal or a captive portal's page, counts as none.
func Answers(ctx context.Context) (yes bool, why string) { return answers(ctx, hub) }

func answers(ctx context.Context, hub string) (yes bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, hub, nil)
	if err != nil {
		return false, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Sprintf("%s does not answer", hub)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Docker-Distribution-Api-Version") == "" {
		return false, fmt.Sprintf("%s is answered by something that is no registry (%s)", hub, resp.Status)
	}
	return true, hub + " answers"
}
