//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
	"github.com/securenotes/securenotes/hack/testenv"
)

// podMemory is the memory limit that the operator gives to pods, in bytes.
const podMemory = 256 << 20

// arena is a replica with the memory limit of a pod, the attackers' accounts, and the bystander, an
// ordinary user.
type arena struct {
	*testing.T
	config  *config.Config
	program testenv.Program
	memory  *testenv.MemoryGroup
	service *testenv.Service

	// crowd is the attackers' program.
	crowd     string
	attackers []exhaustion.Account
	ended     string
	bystander exhaustion.Account
	// visitor is the user of the login measurements. It is not the bystander, because so many
	// logins end older sessions of their user.
	visitor exhaustion.Account
	// changed is the id of the note that the bystander changes.
	changed string
	// readers and loginClient are the bystander's connections.
	readers     []*notesclient.Client
	loginClient *notesclient.Client
	// kills is how many processes killed by the kernel have been reported.
	kills int64
}

// newArena starts a service with the settings of a deployment: default limits, and the memory limit
// of the pod.
func newArena(t *testing.T) *arena {
	t.Helper()
	a := &arena{T: t, memory: testenv.NewMemoryGroup(t, podMemory)}
	a.program = program(t)
	postgres := testenv.StartPostgres(t)
	database := postgres.CreateDatabase(t, "notes")
	a.config = testenv.ServiceConfig(t, database, postgres.CAFile, &testenv.TransitKey{})
	a.config.Keys = config.Keys{Local: &config.Local{File: filepath.Join(t.TempDir(), "master.key")}}
	a.config.RateLimits = config.RateLimits{}
	if out, err := a.program.Command(t.Context(), "migrate", "--config", testenv.WriteConfig(t, a.config)).CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v: %s", err, out)
	}
	a.program, a.crowd = a.program.In(a.memory), buildCrowd(t)
	a.start()
	a.prepareAccounts(database)
	return a
}

func (a *arena) start() {
	a.Helper()
	a.service = a.program.StartService(a, a.config)
	a.checkGoMemoryLimit()
	a.readers = a.bystanderClients()
	a.loginClient = a.newClient(bystanderAddress, notesclient.Options{})
}

// ensureRunning replaces a process that has ended during an attack, or that does not recover from
// it.
func (a *arena) ensureRunning() {
	a.Helper()
	if !a.service.Ended() && a.recovers() {
		return
	}
	if !a.service.Ended() {
		a.service.Kill(a)
	}
	a.start()
}

// recoveryTime is how long the replica may need to serve again after an attack has ended.
const recoveryTime = 10 * time.Second

func (a *arena) recovers() bool {
	return poll.Within(a.Context(), recoveryTime, func(ctx context.Context) error {
		if !a.probe(ctx, "/readyz") {
			return errors.New("the readiness probe fails")
		}
		_, err := a.readers[0].WithToken(a.bystander.Token).GetNote(ctx, a.bystander.Note)
		return err
	}) == nil
}

// checkGoMemoryLimit checks that the Go runtime uses the limit of its control group.
func (a *arena) checkGoMemoryLimit() {
	a.Helper()
	if limit := a.metric("go_gc_gomemlimit_bytes"); limit <= 0 || limit >= podMemory {
		a.Errorf("the Go runtime's memory limit is %.0f bytes, want below the group's %d", limit, podMemory)
	}
}

// refused returns how many connections and requests the service has refused because of a limit.
func (a *arena) refused() float64 {
	return a.metric("securenotes_connections_closed_total") + a.metric("securenotes_requests_refused_total")
}

// metric returns the sum of a metric over its labels, or 0 if there is none.
func (a *arena) metric(name string) (sum float64) {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), recoveryTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.config.MetricsListen+"/metrics", nil)
	if err != nil {
		a.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0 // the probes report this, too
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		a.Fatal(err)
	}
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum
}
