//go:build integration

package main

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// hostile are objects that must be refused, each with words that its sentence must have.
var hostile = map[string]struct{ spec, want string }{
	"replicas with the embedded database": {`{replicas: 2, tls: {secretRef: {name: a}}}`, "set replicas to 1, or use database.postgres"},
	"replicas with embedded written out":  {`{replicas: 3, tls: {secretRef: {name: a}}, database: {embedded: {}}}`, "set replicas to 1"},
	"no certificate":                      {`{tls: {}}`, "tls needs exactly one of certManager and secretRef"},
	"two certificates":                    {`{tls: {secretRef: {name: a}, certManager: {issuerRef: {name: b}}}}`, "tls needs exactly one of certManager and secretRef"},
	"two databases":                       {`{tls: {secretRef: {name: a}}, database: {embedded: {}, postgres: {uriSecretRef: {name: a, key: b}}}}`, "database needs exactly one of postgres and embedded"},
	"a duration in days":                  {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 3d}}`, "auth.tokenTTL"},
	"a duration that overflows":           {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 99999999999999999h}}`, "auth.tokenTTL"},
	"a session that is too long":          {`{tls: {secretRef: {name: a}}, auth: {tokenTTL: 721h}}`, "tokenTTL must be 5m to 720h"},
	"a cheap password hash":               {`{tls: {secretRef: {name: a}}, auth: {bcryptCost: 4}}`, "bcryptCost"},
	"renewal longer than life":            {`{tls: {certManager: {issuerRef: {name: a}, duration: 2h, renewBefore: 3h}}}`, "renewBefore must be shorter than duration"},
	"labels of the operator":              {`{tls: {secretRef: {name: a}}, podTemplate: {labels: {app.kubernetes.io/name: x}}}`, "are the operator's: choose another prefix"},
	"a label of a Job's name":             {`{tls: {secretRef: {name: a}}, podTemplate: {labels: {job-name: x}}}`, "are the Job controller's"},
	"a label of a Job's uid":              {`{tls: {secretRef: {name: a}}, podTemplate: {labels: {controller-uid: x}}}`, "are the Job controller's"},
	"a label of the Job controller":       {`{tls: {secretRef: {name: a}}, podTemplate: {labels: {batch.kubernetes.io/job-name: x}}}`, "are the Job controller's"},
	"a priority of the cluster's":         {`{tls: {secretRef: {name: a}}, podTemplate: {priorityClassName: system-node-critical}}`, "choose a class of your own"},
	"a hostname that is none":             {`{tls: {secretRef: {name: a}}, hostnames: ["a b"]}`, "hostnames[0]"},
	"a hostname in capitals":              {`{tls: {secretRef: {name: a}}, hostnames: [UPPER.example.com]}`, "in lower case and without a wildcard"},
	"a wildcard as a hostname":            {`{tls: {secretRef: {name: a}}, hostnames: ["*.example.com"]}`, "in lower case and without a wildcard"},
	"an address as a hostname":            {`{tls: {secretRef: {name: a}}, hostnames: [192.0.2.1]}`, "an IP address cannot be one of hostnames"},
	"an address of another form":          {`{tls: {secretRef: {name: a}}, hostnames: [a.example.com, "10.1"]}`, "an IP address cannot be one of hostnames"},
	"a hostname without a dot":            {`{tls: {secretRef: {name: a}}, hostnames: [other]}`, "a name without a dot"},
	"a Service as a hostname":             {`{tls: {secretRef: {name: a}}, hostnames: [a.example.com, other.victim.svc]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a Service by its whole name":         {`{tls: {secretRef: {name: a}}, hostnames: [other.victim.svc.cluster.local]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a Service of another cluster domain": {`{tls: {secretRef: {name: a}}, hostnames: [other.victim.svc.corp.example.com]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a pod of a Service as a hostname":    {`{tls: {secretRef: {name: a}}, hostnames: [pod-0.other.victim.svc]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"the cluster's domain":                {`{tls: {secretRef: {name: a}}, hostnames: [cluster.local]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a pod by a short name":               {`{tls: {secretRef: {name: a}}, hostnames: [10-0-0-1.victim.pod]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a pod of another domain":             {`{tls: {secretRef: {name: a}}, hostnames: [10-0-0-1.victim.pod.corp.example]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a pod as a hostname":                 {`{tls: {secretRef: {name: a}}, hostnames: [192-0-2-1.victim.pod.cluster.local]}`, "names of Services and pods in the cluster cannot be hostnames"},
	"a certificate without a name":        {`{tls: {certManager: {issuerRef: {name: a}, serviceNames: Exclude}}}`, "add one to hostnames"},
	"a common name of no hostname":        {`{tls: {certManager: {issuerRef: {name: a}, commonName: FirstHostname}}}`, "a hostname of 64 characters or fewer"},
	"a common name that is too long":      {`{hostnames: [` + strings.Repeat("a", 60) + `.example.com], tls: {certManager: {issuerRef: {name: a}, commonName: FirstHostname}}}`, "a hostname of 64 characters or fewer"},
	"a common name of one's own":          {`{hostnames: [a.example.com], tls: {certManager: {issuerRef: {name: a}, commonName: admin}}}`, "tls.certManager.commonName"},
	"too many hostnames":                  {`{tls: {secretRef: {name: a}}, hostnames: [a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]}`, "hostnames"},
	"a schedule without end":              {`{tls: {secretRef: {name: a}}, keyRotation: {schedule: "` + strings.Repeat("*", 101) + `"}}`, "keyRotation.schedule"},
	"a rotation that stands still":        {`{tls: {secretRef: {name: a}}, keyRotation: {maxNotesPerSecond: 0}}`, "keyRotation.maxNotesPerSecond"},
	"versions destroyed some day":         {`{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: 3d}}}`, "keyRotation.trim.after"},
	"versions destroyed who knows when":   {`{tls: {secretRef: {name: a}}, keyRotation: {trim: {keepFromVersion: 2}}}`, "keyRotation.trim.after"},
	"versions destroyed before they end":  {`{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: "-1h"}}}`, "keyRotation.trim.after"},
	"versions kept from before the first": {`{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: 1h, keepFromVersion: 0}}}`, "keyRotation.trim.keepFromVersion"},
	"a brake that overflows":              {`{tls: {secretRef: {name: a}}, keyRotation: {maxNotesPerSecond: 1000001}}`, "keyRotation.maxNotesPerSecond"},
	"a secret's name that climbs":         {`{tls: {secretRef: {name: a}}, database: {postgres: {uriSecretRef: {name: ../x, key: uri}}}}`, "uriSecretRef.name"},
	"a traffic policy of no effect":       {`{tls: {secretRef: {name: a}}, service: {externalTrafficPolicy: Local}}`, "set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"},
	"a traffic policy within the cluster": {`{tls: {secretRef: {name: a}}, service: {type: ClusterIP, externalTrafficPolicy: Cluster}}`, "externalTrafficPolicy has no effect"},
	"a traffic policy that is none":       {`{tls: {secretRef: {name: a}}, service: {type: NodePort, externalTrafficPolicy: Global}}`, "service.externalTrafficPolicy"},
	"a proxy that is everyone":            {`{tls: {secretRef: {name: a}}, trustedProxies: [everyone]}`, "each of trustedProxies must be an address or a network"},
	"any web page":                        {`{tls: {secretRef: {name: a}}, cors: {allowedOrigins: ["*"]}}`, "cors.allowedOrigins[0]"},
	"two counters":                        {`{tls: {secretRef: {name: a}}, rateLimits: {memory: {}, redis: {uriSecretRef: {name: a, key: b}}}}`, "at most one of memory and redis"},
	"a counter in two processes":          {`{tls: {secretRef: {name: a}}, database: {postgres: {uriSecretRef: {name: a, key: b}}}, rateLimits: {memory: {}}}`, "rateLimits.memory is of one process"},
	"no registration at all":              {`{tls: {secretRef: {name: a}}, rateLimits: {registrationsPerDay: 0}}`, "registrationsPerDay"},
	"registrations without end":           {`{tls: {secretRef: {name: a}}, rateLimits: {registrationsPerDay: 1000001}}`, "registrationsPerDay"},
	"no account at all":                   {`{tls: {secretRef: {name: a}}, quotas: {accounts: 0}}`, "quotas.accounts"},
	"accounts that overflow":              {`{tls: {secretRef: {name: a}}, quotas: {accounts: 99999999999}}`, "quotas.accounts"},
	"fewer notes than none":               {`{tls: {secretRef: {name: a}}, quotas: {notes: -1}}`, "quotas.notes"},
	"notes without end":                   {`{tls: {secretRef: {name: a}}, quotas: {notes: 10000001}}`, "quotas.notes"},
	"fewer bytes than none":               {`{tls: {secretRef: {name: a}}, quotas: {bytes: "-5Mi"}}`, "quotas.bytes"},
	"bytes in an exponent":                {`{tls: {secretRef: {name: a}}, quotas: {bytes: "1e30"}}`, "quotas.bytes"},
	"thousandths of bytes":                {`{tls: {secretRef: {name: a}}, quotas: {bytes: "1441m"}}`, "quotas.bytes"},
	"bytes in no unit":                    {`{tls: {secretRef: {name: a}}, quotas: {bytes: "1048576"}}`, "quotas.bytes"},
	"bytes that are a number":             {`{tls: {secretRef: {name: a}}, quotas: {bytes: 1048576}}`, "quotas.bytes"},
	"more bytes than a disk has":          {`{tls: {secretRef: {name: a}}, quotas: {bytes: "1025Gi"}}`, "quotas.bytes must be 1Mi to 1Ti"},
	"bytes that overflow":                 {`{tls: {secretRef: {name: a}}, quotas: {bytes: "999999Ti"}}`, "quotas.bytes must be 1Mi to 1Ti"},
	"no failed login at all":              {`{tls: {secretRef: {name: a}}, rateLimits: {failedLoginsPerMinute: 0}}`, "failedLoginsPerMinute"},
	"an amount that is none":              {`{tls: {secretRef: {name: a}}, resources: {requests: {cpu: "1e1.5"}}}`, "resources.requests.cpu"},
	"an exponent that overflows":          {`{tls: {secretRef: {name: a}}, resources: {limits: {cpu: "1e99999999999999999999"}}}`, "resources.limits.cpu"},
	"an exponent that costs seconds":      {`{tls: {secretRef: {name: a}}, resources: {limits: {memory: "1000000000000000000001e9999999"}}}`, "resources.limits.memory"},
	"a resource name without end":         {`{tls: {secretRef: {name: a}}, resources: {limits: {` + strings.Repeat("a", 318) + `: "1"}}}`, "at most 317 characters"},
	"too many resources":                  {`{tls: {secretRef: {name: a}}, resources: {limits: {a: "1", b: "1", c: "1", d: "1", e: "1", f: "1", g: "1", h: "1", i: "1"}}}`, "resources.limits"},
	"a spread that overflows":             {`{tls: {secretRef: {name: a}}, podTemplate: {topologySpreadConstraints: [{maxSkew: 3000000000, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}}`, "maxSkew"},
	"domains that overflow":               {`{tls: {secretRef: {name: a}}, podTemplate: {topologySpreadConstraints: [{maxSkew: 1, minDomains: 3000000000, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]}}`, "minDomains"},
	"a weight that overflows":             {`{tls: {secretRef: {name: a}}, podTemplate: {affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 3000000000, preference: {}}]}}}}`, "weight"},
	"a weight of pods that overflows":     {`{tls: {secretRef: {name: a}}, podTemplate: {affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 3000000000, podAffinityTerm: {topologyKey: a}}]}}}}`, "weight"},
	"a toleration without end":            {`{tls: {secretRef: {name: a}}, podTemplate: {tolerations: [{tolerationSeconds: 1e300}]}}`, "tolerationSeconds"},
	"a size in an exponent":               {`{tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: "1e99"}}}}`, "storage.size"},
	"a size in no unit":                   {`{tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: "1"}}}}`, "storage.size"},
}

func unstructuredOf(t *testing.T, namespace, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(spec), &object); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "securenotes.dev/v1alpha1", "kind": kind,
		"metadata": map[string]any{"namespace": namespace, "name": name}, "spec": object,
	}}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	for name, tc := range hostile {
		t.Run(name, func(t *testing.T) {
			object := unstructuredOf(t, namespace, "SecureNotes", "x", tc.spec)
			err := c.Create(t.Context(), object)
			if err == nil {
				// What got past must not break the list for those that follow.
				defer func() { _ = c.Delete(context.Background(), object) }()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	for name, tc := range map[string]struct{ name, want string }{
		"a name that is too long":       {strings.Repeat("a", 41), "at most 40 characters"},
		"a name that begins with digit": {"1a", "start with a letter"},
		"a name with a dot":             {"a.b", "only lower-case letters"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Create(t.Context(), unstructuredOf(t, namespace, "SecureNotes", tc.name, `{tls: {secretRef: {name: a}}}`))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	t.Run("others still reconcile", func(t *testing.T) { testOthersReconcile(t, c, namespace) })
	t.Run("changes", func(t *testing.T) { testImmutable(t, c, namespace) })
	t.Run("hostnames that may be", func(t *testing.T) {
		for _, name := range []string{"localhost", "example.com", "notes.example.com", "notes.svc.example.com", "svc.example.com", "1.example.com", "xn--bcher-kva.example"} {
			judge(t, c.Create(t.Context(), unstructuredOf(t, namespace, "SecureNotes", "x", `{hostnames: ["`+name+`"], tls: {secretRef: {name: a}}}`), client.DryRunAll), "")
		}
	})
	t.Run("defaults are not written", func(t *testing.T) {
		object := unstructuredOf(t, namespace, "SecureNotes", "plain", `{tls: {secretRef: {name: a}}, suspend: true}`)
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		if spec, _, _ := unstructured.NestedMap(object.Object, "spec"); len(spec) != 2 {
			t.Errorf("the API server wrote defaults into the spec: %v", spec)
		}
	})
}

// testOthersReconcile: after all of that, and next to an object whose amounts are as odd as admission
// lets them be, everything can still be listed and a new object is reconciled.
func testOthersReconcile(t *testing.T, c *cluster, namespace string) {
	odd := unstructuredOf(t, namespace, "SecureNotes", "odd", `{tls: {secretRef: {name: a}}, vaultConnection: away,
		resources: {requests: {cpu: "0.001m", a b: "999999999999.999Pi"}, limits: {memory: "000000000000"}}}`)
	other := unstructuredOf(t, namespace, "SecureNotes", "other", `{tls: {secretRef: {name: a}}, vaultConnection: away}`)
	for _, object := range []client.Object{odd, other} {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Delete(context.Background(), object) }()
	}
	if err := c.List(t.Context(), &v1alpha1.SecureNotesList{}); err != nil {
		t.Errorf("the list is broken: %v", err)
	}
	for _, name := range []string{"odd", "other"} {
		c.awaitCondition(t, namespace, name, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonVaultUnreachable)
	}
}

func testImmutable(t *testing.T, c *cluster, namespace string) {
	object := unstructuredOf(t, namespace, "SecureNotes", "fixed", `{suspend: true, tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: 2Gi}}}}`)
	rotation := unstructuredOf(t, namespace, "KeyRotation", "fixed", `{secureNotesRef: {name: nobody}}`)
	for _, o := range []client.Object{object, rotation} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		object      *unstructured.Unstructured
		patch, want string
	}{
		"other database": {object, `{spec: {database: {embedded: null, postgres: {uriSecretRef: {name: a, key: b}}}}}`, "create another SecureNotes and move the notes"},
		"other Vault":    {object, `{spec: {vaultConnection: other}}`, "vaultConnection cannot be changed"},
		"other class":    {object, `{spec: {database: {embedded: {storage: {storageClassName: b}}}}}`, "cannot be changed"},
		"other rotation": {rotation, `{spec: {reason: Compromise}}`, "create another KeyRotation"},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := yaml.YAMLToJSON([]byte(tc.patch))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Patch(t.Context(), tc.object.DeepCopy(), client.RawPatch("application/merge-patch+json", patch))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the refusal does not say %q: %v", tc.want, err)
			}
		})
	}
	t.Run("compromise that rewraps", func(t *testing.T) {
		err := c.Create(t.Context(), unstructuredOf(t, namespace, "KeyRotation", "x", `{secureNotesRef: {name: a}, reason: Compromise, strategy: Rewrap}`))
		if err == nil || !strings.Contains(err.Error(), "set strategy to Reencrypt") {
			t.Errorf("the refusal does not say what to do: %v", err)
		}
	})
}
