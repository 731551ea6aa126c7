package httpapi_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// FuzzAPI sends requests derived from the document, valid and damaged ones, and checks every answer
// against the document. No request may cause an internal error, an undocumented answer, or a secret
// in the log.
func FuzzAPI(f *testing.F) {
	// Minimizing an input sends it thousands of times. By default that takes a minute for each new
	// input, in which nothing new is tried.
	if minimize := flag.Lookup("test.fuzzminimizetime"); minimize.Value.String() == minimize.DefValue {
		if err := minimize.Value.Set("1x"); err != nil {
			f.Fatal(err)
		}
	}
	w := newWorld(f, storetest.SQLite(f))
	random := rand.New(rand.NewPCG(1, 1))
	for i := range w.operations {
		f.Add([]byte{byte(i)}) // the simplest request
		for range 4 {
			f.Add(seed(random, i))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &choices{data}
		for range maxRequests {
			w.step(t, choose(c, w.operations), c)
			if len(c.left) == 0 {
				return
			}
		}
	})
}

// TestAPIFromDocument sends many requests of each operation, until each operation has succeeded and
// failed.
func TestAPIFromDocument(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		const least, most = 100, 1_000
		w := newWorld(t, open)
		random := rand.New(rand.NewPCG(2, 2))
		statuses := make([]map[int]int, len(w.operations))
		for i := range statuses {
			statuses[i] = map[int]int{}
		}
		for round, lacking := 0, ""; round < least || lacking != ""; round++ {
			if round == most {
				t.Errorf("in %d requests each:\n%s", round, lacking)
				break
			}
			lacking = ""
			for i, o := range w.operations {
				statuses[i][w.step(t, o, &choices{seed(random, i)[1:]}).StatusCode]++
				succeeded, failed := false, !o.canFail()
				for status := range statuses[i] {
					succeeded = succeeded || status < http.StatusBadRequest
					failed = failed || status >= http.StatusBadRequest
				}
				if !succeeded || !failed {
					lacking += fmt.Sprintf("%s %s succeeded: %t, failed: %t\n", o.method, o.path, succeeded, failed)
				}
			}
		}
		for i, o := range w.operations {
			t.Logf("%s %s: %v", o.method, o.path, statuses[i])
		}
	})
}

const (
	// maxRequests bounds the requests of one input: later requests find the state that earlier ones
	// left.
	maxRequests = 4
	// requestsOfTenant bounds how many notes and sessions a tenant creates.
	requestsOfTenant = 200
	// seedLength is enough for all choices of a request.
	seedLength = 256
)

func seed(random *rand.Rand, operation int) []byte {
	data := make([]byte, seedLength)
	for i := range data {
		data[i] = byte(random.UintN(256))
	}
	data[0] = byte(operation)
	return data
}
