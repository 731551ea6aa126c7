//go:build integration

package chaos_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
)

const (
	bystanderAddress = "127.0.0.99"
	// readEvery and writeEvery keep the bystander within the 900 requests a minute that one session
	// has.
	readEvery  = 90 * time.Millisecond
	writeEvery = 500 * time.Millisecond
	loginEvery = time.Second
	// answerTimeout is how long the bystander waits for an answer.
	answerTimeout = 10 * time.Second
	// retryAfter is how long it waits before it retries a refused request, once.
	retryAfter = 100 * time.Millisecond
)

// readings are the results of the bystander's requests.
type readings struct {
	latencies       []time.Duration
	retried, failed int
	lastFailure     string
}

func (r *readings) percentile(p int) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.latencies))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Round(time.Millisecond)
}

func (r *readings) failures(what string) (found []string) {
	if r.failed > 0 {
		found = append(found, fmt.Sprintf("%d of %d %s failed, the last one: %s", r.failed, len(r.latencies), what, r.lastFailure))
	}
	return found
}

// bystanderClients returns a client that opens a connection for each request, one that keeps its
// connections, and one that uses HTTP/2.
func (a *arena) bystanderClients() (clients []*notesclient.Client) {
	for _, o := range []notesclient.Options{{ConnectionPerRequest: true}, {}, {HTTP2: true}} {
		clients = append(clients, a.newClient(bystanderAddress, o))
	}
	return clients
}

// observeReads makes the bystander read a note constantly. A slow answer delays no other request.
func (a *arena) observeReads(ctx context.Context) readings {
	number := 0
	return observe(ctx, readEvery, func() func(context.Context) (bool, error) {
		client := a.readers[number%len(a.readers)]
		number++
		return func(ctx context.Context) (bool, error) {
			return patient(ctx, func() error {
				_, err := client.WithToken(a.bystander.Token).GetNote(ctx, a.bystander.Note)
				return err
			})
		}
	})
}

// observeWrites makes the bystander change another note from time to time, alternately to a small
// and a large one.
func (a *arena) observeWrites(ctx context.Context) readings {
	contents := []string{"a change", largeNote}
	number := 0
	return observe(ctx, writeEvery, func() func(context.Context) (bool, error) {
		content := contents[number%len(contents)]
		number++
		return func(ctx context.Context) (bool, error) {
			return patient(ctx, func() error {
				_, err := a.readers[1].WithToken(a.bystander.Token).UpdateNote(ctx, a.changed, notesclient.Content{Content: content}, "")
				return err
			})
		}
	})
}

// observeLogins makes the visitor log in from time to time.
func (a *arena) observeLogins(ctx context.Context) readings {
	return observe(ctx, loginEvery, func() func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			return patient(ctx, func() error {
				_, err := a.loginClient.Login(ctx, a.visitor.Name, password)
				return err
			})
		}
	})
}

// observe starts a request in each interval until ctx ends, and waits for all answers.
func observe(ctx context.Context, interval time.Duration, next func() func(context.Context) (retried bool, err error)) (r readings) {
	var (
		mu   sync.Mutex
		done sync.WaitGroup
	)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			done.Wait()
			return r
		case <-tick.C:
		}
		request := next()
		done.Go(func() {
			waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
			defer cancel()
			begun := time.Now()
			retried, err := request(waiting)
			mu.Lock()
			defer mu.Unlock()
			r.latencies = append(r.latencies, time.Since(begun))
			if retried {
				r.retried++
			}
			if err != nil {
				r.failed++
				r.lastFailure = err.Error()
			}
		})
	}
}

// patient makes a call, and retries it once if it was refused, as clients do.
func patient(ctx context.Context, call func() error) (retried bool, err error) {
	err = call()
	if status := notesclient.Status(err); err == nil || status != 0 && status != http.StatusServiceUnavailable {
		return false, err
	}
	select {
	case <-ctx.Done():
		return true, ctx.Err()
	case <-time.After(retryAfter):
	}
	return true, call()
}

// These are the kubelet's settings for the pods that the operator creates.
const (
	probeEvery, probeTimeout = time.Second, time.Second
	probeThreshold           = 3
)

// probeReport is the largest number of successive failures of each probe.
type probeReport map[string]int

func (p probeReport) failures() (found []string) {
	for path, row := range p {
		if row >= probeThreshold {
			found = append(found, fmt.Sprintf("%s failed %d times in a row", path, row))
		}
	}
	slices.Sort(found)
	return found
}

// observeProbes calls the probes as the kubelet does, each time on a new connection.
func (a *arena) observeProbes(ctx context.Context) probeReport {
	report, row := probeReport{}, map[string]int{}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return report
		case <-tick.C:
		}
		for _, path := range []string{"/livez", "/readyz"} {
			probed, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
			if a.probe(probed, path) {
				row[path] = 0
			} else {
				row[path]++
				report[path] = max(report[path], row[path])
			}
			cancel()
		}
	}
}

func (a *arena) probe(ctx context.Context, path string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.config.MetricsListen+path, nil)
	if err != nil {
		return false
	}
	kubelet := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{}).DialContext}}
	response, err := kubelet.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// observeMemory returns the peak memory of the process, and how much of it were socket buffers.
func (a *arena) observeMemory(ctx context.Context) (peak, sockets int64) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		use, err := a.memory.Use()
		if err != nil {
			a.Errorf("memory: %v", err)
			return peak, sockets
		}
		if use.Total() > peak {
			peak, sockets = use.Total(), use.Sockets
		}
		select {
		case <-ctx.Done():
			return peak, sockets
		case <-tick.C:
		}
	}
}

// memoryFailures includes socket buffers, which count against the limit in cgroup v2.
func (a *arena) memoryFailures(peak int64) (found []string) {
	kills, err := a.memory.Kills()
	if err != nil {
		a.Fatal(err)
	}
	if kills > a.kills {
		a.kills = kills
		found = append(found, "the kernel ended the process for want of memory")
	} else if a.service.Ended() {
		found = append(found, "the process has ended")
	}
	if peak > a.memory.Limit {
		found = append(found, fmt.Sprintf("the process used %d MiB, socket buffers included", peak>>20))
	}
	return found
}
