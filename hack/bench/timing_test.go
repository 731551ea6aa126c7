//go:build bench

package bench

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// timingPairs is how many logins of each kind are compared.
const timingPairs = 100

// TestBenchTiming measures whether the time of a failed login reveals that the user exists. Logins
// of a known and an unknown user alternate, so that other load on the machine affects both equally.
// It prints the difference with its confidence interval (paired t, 99 %), and the spread of the
// times.
func TestBenchTiming(t *testing.T) {
	s := startService(t)
	if err := s.client.Register(t.Context(), "known-user", "correct horse battery"); err != nil {
		t.Fatal(err)
	}
	c := connect(t, s.process.Address, s.process.Pool)
	login := func(username string) float64 {
		t.Helper()
		start := time.Now()
		if _, err := c.do(request("POST", "/api/auth/login", "", `{"username":"`+username+`","password":"wrong horse battery"}`), 401); err != nil {
			t.Fatal(err)
		}
		return float64(time.Since(start).Microseconds())
	}
	login("known-user") // the first one opens connections
	known, unknown, difference := make([]float64, timingPairs), make([]float64, timingPairs), make([]float64, timingPairs)
	for i := range timingPairs {
		// The order alternates, too. Each unknown name is new, because failed logins are limited by
		// name.
		if i%2 == 0 {
			known[i], unknown[i] = login("known-user"), login(fmt.Sprintf("nobody-%d", i))
		} else {
			unknown[i], known[i] = login(fmt.Sprintf("nobody-%d", i)), login("known-user")
		}
		difference[i] = known[i] - unknown[i]
	}
	mean, deviation := meanAndDeviation(difference)
	half := 2.626 * deviation / math.Sqrt(timingPairs) // t of 99 % at 99 degrees of freedom
	_, spread := meanAndDeviation(known)
	verdict := "zero lies in it: the times do not tell"
	if math.Abs(mean) > half {
		verdict = "zero lies outside: the times tell"
	}
	fmt.Printf("\nfailed login, known user:    median %.1f ms\nfailed login, unknown user:  median %.1f ms\n"+
		"difference: %+.0f µs, 99 %% interval %+.0f to %+.0f µs (%s); one login's own deviation: %.0f µs; %d pairs\n\n",
		median(known)/1000, median(unknown)/1000, mean, mean-half, mean+half, verdict, spread, timingPairs)
}

func meanAndDeviation(values []float64) (mean, deviation float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		deviation += (v - mean) * (v - mean) / float64(len(values)-1)
	}
	return mean, math.Sqrt(deviation)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
