// Package registry finds out whether a container registry can be reached from this machine.
package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
)

// patience bounds the check, so that a machine without network access does not wait long.
const patience = 4 * time.Second

// Answer requests the API version from every registry of a lock. Other answers, such as those of a
// proxy or a captive portal, count as none.
func Answer(ctx context.Context, l imagelock.Lock) (yes bool, why string) {
	asked := map[string]bool{}
	for _, use := range l.Uses() {
		host, _, _ := strings.Cut(l.Images[use].Name, "/")
		if host == "docker.io" {
			host = hub
		}
		if asked[host] {
			continue
		}
		asked[host] = true
		if yes, why = answers(ctx, "https://"+host+"/v2/"); !yes {
			return false, why
		}
	}
	return true, "the registries answer"
}

// hub is the registry of docker.io's images.
const hub = "registry-1.docker.io"

func answers(ctx context.Context, url string) (yes bool, why string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Sprintf("%s does not answer", url)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.Header.Get("Docker-Distribution-Api-Version") == "" {
		return false, fmt.Sprintf("%s is answered by something that is no registry (%s)", url, resp.Status)
	}
	return true, url + " answers"
}
