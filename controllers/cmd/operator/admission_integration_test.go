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

// hostile are objects that must be rejected, each with words of the rejection.
var hostile = map[string]struct{ spec, want string }{
	"replicas with the embedded database": {spec: `{replicas: 2, tls: {secretRef: {name: a}}}`, want: "set replicas to 1, or use database.postgres"},
	"replicas with embedded written out":  {spec: `{replicas: 3, tls: {secretRef: {name: a}}, database: {embedded: {}}}`, want: "set replicas to 1"},
	"no certificate":                      {spec: `{tls: {}}`, want: "tls needs exactly one of certManager and secretRef"},
	"two certificates":                    {spec: `{tls: {secretRef: {name: a}, certManager: {issuerRef: {name: b}}}}`, want: "tls needs exactly one of certManager and secretRef"},
	"two databases":                       {spec: `{tls: {secretRef: {name: a}}, database: {embedded: {}, postgres: {uriSecretRef: {name: a, key: b}}}}`, want: "database needs exactly one of postgres and embedded"},
	"a duration in days":                  {spec: `{tls: {secretRef: {name: a}}, auth: {tokenTTL: 3d}}`, want: "auth.tokenTTL"},
	"a duration that overflows":           {spec: `{tls: {secretRef: {name: a}}, auth: {tokenTTL: 99999999999999999h}}`, want: "auth.tokenTTL"},
	"a session that is too long":          {spec: `{tls: {secretRef: {name: a}}, auth: {tokenTTL: 721h}}`, want: "tokenTTL must be 5m to 720h"},
	"a cheap password hash":               {spec: `{tls: {secretRef: {name: a}}, auth: {bcryptCost: 4}}`, want: "bcryptCost"},
	"renewal longer than life":            {spec: `{tls: {certManager: {issuerRef: {name: a}, duration: 2h, renewBefore: 3h}}}`, want: "renewBefore must be shorter than duration"},
	"labels of the operator":              {spec: `{tls: {secretRef: {name: a}}, podTemplate: {labels: {app.kubernetes.io/name: x}}}`, want: "are reserved for the operator: choose another prefix"},
	"a label of a Job's name":             {spec: `{tls: {secretRef: {name: a}}, podTemplate: {labels: {job-name: x}}}`, want: "are reserved for the Job controller"},
	"a label of a Job's uid":              {spec: `{tls: {secretRef: {name: a}}, podTemplate: {labels: {controller-uid: x}}}`, want: "are reserved for the Job controller"},
	"a label of the Job controller":       {spec: `{tls: {secretRef: {name: a}}, podTemplate: {labels: {batch.kubernetes.io/job-name: x}}}`, want: "are reserved for the Job controller"},
	"a priority of the cluster's":         {spec: `{tls: {secretRef: {name: a}}, podTemplate: {priorityClassName: system-node-critical}}`, want: "choose another PriorityClass"},
	"a hostname that is none":             {spec: `{tls: {secretRef: {name: a}}, hostnames: ["a b"]}`, want: "hostnames[0]"},
	"a hostname in capitals":              {spec: `{tls: {secretRef: {name: a}}, hostnames: [UPPER.example.com]}`, want: "in lower case and without a wildcard"},
	"a wildcard as a hostname":            {spec: `{tls: {secretRef: {name: a}}, hostnames: ["*.example.com"]}`, want: "in lower case and without a wildcard"},
	"an address as a hostname":            {spec: `{tls: {secretRef: {name: a}}, hostnames: [192.0.2.1]}`, want: "an IP address cannot be one of hostnames"},
	"an address of another form":          {spec: `{tls: {secretRef: {name: a}}, hostnames: [a.example.com, "10.1"]}`, want: "an IP address cannot be one of hostnames"},
	"a hostname without a dot":            {spec: `{tls: {secretRef: {name: a}}, hostnames: [other]}`, want: "a name without a dot"},
	"a Service as a hostname":             {spec: `{tls: {secretRef: {name: a}}, hostnames: [a.example.com, other.victim.svc]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a Service by its whole name":         {spec: `{tls: {secretRef: {name: a}}, hostnames: [other.victim.svc.cluster.local]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a Service of another cluster domain": {spec: `{tls: {secretRef: {name: a}}, hostnames: [other.victim.svc.corp.example.com]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a pod of a Service as a hostname":    {spec: `{tls: {secretRef: {name: a}}, hostnames: [pod-0.other.victim.svc]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"the cluster's domain":                {spec: `{tls: {secretRef: {name: a}}, hostnames: [cluster.local]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a pod by a short name":               {spec: `{tls: {secretRef: {name: a}}, hostnames: [10-0-0-1.victim.pod]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a pod of another domain":             {spec: `{tls: {secretRef: {name: a}}, hostnames: [10-0-0-1.victim.pod.corp.example]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a pod as a hostname":                 {spec: `{tls: {secretRef: {name: a}}, hostnames: [192-0-2-1.victim.pod.cluster.local]}`, want: "names of Services and pods in the cluster cannot be hostnames"},
	"a certificate without a name":        {spec: `{tls: {certManager: {issuerRef: {name: a}, serviceNames: Exclude}}}`, want: "add one to hostnames"},
	"a common name of no hostname":        {spec: `{tls: {certManager: {issuerRef: {name: a}, commonName: FirstHostname}}}`, want: "a hostname of 64 characters or fewer"},
	"a common name that is too long":      {spec: `{hostnames: [` + strings.Repeat("a", 60) + `.example.com], tls: {certManager: {issuerRef: {name: a}, commonName: FirstHostname}}}`, want: "a hostname of 64 characters or fewer"},
	"a common name of one's own":          {spec: `{hostnames: [a.example.com], tls: {certManager: {issuerRef: {name: a}, commonName: admin}}}`, want: "tls.certManager.commonName"},
	"too many hostnames":                  {spec: `{tls: {secretRef: {name: a}}, hostnames: [a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q]}`, want: "hostnames"},
	"a schedule without end":              {spec: `{tls: {secretRef: {name: a}}, keyRotation: {schedule: "` + strings.Repeat("*", 101) + `"}}`, want: "keyRotation.schedule"},
	"a rotation that stands still":        {spec: `{tls: {secretRef: {name: a}}, keyRotation: {maxNotesPerSecond: 0}}`, want: "keyRotation.maxNotesPerSecond"},
	"versions destroyed some day":         {spec: `{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: 3d}}}`, want: "keyRotation.trim.after"},
	"versions destroyed who knows when":   {spec: `{tls: {secretRef: {name: a}}, keyRotation: {trim: {keepFromVersion: 2}}}`, want: "keyRotation.trim.after"},
	"versions destroyed before they end":  {spec: `{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: "-1h"}}}`, want: "keyRotation.trim.after"},
	"versions kept from before the first": {spec: `{tls: {secretRef: {name: a}}, keyRotation: {trim: {after: 1h, keepFromVersion: 0}}}`, want: "keyRotation.trim.keepFromVersion"},
	"a brake that overflows":              {spec: `{tls: {secretRef: {name: a}}, keyRotation: {maxNotesPerSecond: 1000001}}`, want: "keyRotation.maxNotesPerSecond"},
	"a secret's name that climbs":         {spec: `{tls: {secretRef: {name: a}}, database: {postgres: {uriSecretRef: {name: ../x, key: uri}}}}`, want: "uriSecretRef.name"},
	"a traffic policy of no effect":       {spec: `{tls: {secretRef: {name: a}}, service: {externalTrafficPolicy: Local}}`, want: "set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"},
	"a traffic policy within the cluster": {spec: `{tls: {secretRef: {name: a}}, service: {type: ClusterIP, externalTrafficPolicy: Cluster}}`, want: "externalTrafficPolicy has no effect"},
	"a traffic policy that is none":       {spec: `{tls: {secretRef: {name: a}}, service: {type: NodePort, externalTrafficPolicy: Global}}`, want: "service.externalTrafficPolicy"},
	"a proxy that is everyone":            {spec: `{tls: {secretRef: {name: a}}, trustedProxies: [everyone]}`, want: "each of trustedProxies must be an IP address, or a network"},
	"any web page":                        {spec: `{tls: {secretRef: {name: a}}, cors: {allowedOrigins: ["*"]}}`, want: "cors.allowedOrigins[0]"},
	"two counters":                        {spec: `{tls: {secretRef: {name: a}}, rateLimits: {memory: {}, redis: {uriSecretRef: {name: a, key: b}}}}`, want: "at most one of memory and redis"},
	"a counter in two processes":          {spec: `{tls: {secretRef: {name: a}}, database: {postgres: {uriSecretRef: {name: a, key: b}}}, rateLimits: {memory: {}}}`, want: "rateLimits.memory works with one replica only"},
	"no registration at all":              {spec: `{tls: {secretRef: {name: a}}, rateLimits: {registrationsPerDay: 0}}`, want: "registrationsPerDay"},
	"registrations without end":           {spec: `{tls: {secretRef: {name: a}}, rateLimits: {registrationsPerDay: 1000001}}`, want: "registrationsPerDay"},
	"no account at all":                   {spec: `{tls: {secretRef: {name: a}}, quotas: {accounts: 0}}`, want: "quotas.accounts"},
	"accounts that overflow":              {spec: `{tls: {secretRef: {name: a}}, quotas: {accounts: 99999999999}}`, want: "quotas.accounts"},
	"fewer notes than none":               {spec: `{tls: {secretRef: {name: a}}, quotas: {notes: -1}}`, want: "quotas.notes"},
	"notes without end":                   {spec: `{tls: {secretRef: {name: a}}, quotas: {notes: 10000001}}`, want: "quotas.notes"},
	"fewer bytes than none":               {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "-5Mi"}}`, want: "quotas.bytes"},
	"bytes in an exponent":                {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "1e30"}}`, want: "quotas.bytes"},
	"thousandths of bytes":                {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "1441m"}}`, want: "quotas.bytes"},
	"bytes in no unit":                    {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "1048576"}}`, want: "quotas.bytes"},
	"bytes that are a number":             {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: 1048576}}`, want: "quotas.bytes"},
	"more bytes than a disk has":          {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "1025Gi"}}`, want: "quotas.bytes must be 1Mi to 1Ti"},
	"bytes that overflow":                 {spec: `{tls: {secretRef: {name: a}}, quotas: {bytes: "999999Ti"}}`, want: "quotas.bytes must be 1Mi to 1Ti"},
	"no failed login at all":              {spec: `{tls: {secretRef: {name: a}}, rateLimits: {failedLoginsPerMinute: 0}}`, want: "failedLoginsPerMinute"},
	"an amount that is none":              {spec: `{tls: {secretRef: {name: a}}, resources: {requests: {cpu: "1e1.5"}}}`, want: "resources.requests.cpu"},
	"an exponent that overflows":          {spec: `{tls: {secretRef: {name: a}}, resources: {limits: {cpu: "1e99999999999999999999"}}}`, want: "resources.limits.cpu"},
	"an exponent that costs seconds":      {spec: `{tls: {secretRef: {name: a}}, resources: {limits: {memory: "1000000000000000000001e9999999"}}}`, want: "resources.limits.memory"},
	"a resource name without end":         {spec: `{tls: {secretRef: {name: a}}, resources: {limits: {` + strings.Repeat("a", 318) + `: "1"}}}`, want: "at most 317 characters"},
	"too many resources":                  {spec: `{tls: {secretRef: {name: a}}, resources: {limits: {a: "1", b: "1", c: "1", d: "1", e: "1", f: "1", g: "1", h: "1", i: "1"}}}`, want: "resources.limits"},
	"a spread that overflows":             {spec: `{tls: {secretRef: {name: a}}, podTemplate: {topologySpreadConstraints: [{maxSkew: 3000000000, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}}`, want: "maxSkew"},
	"domains that overflow":               {spec: `{tls: {secretRef: {name: a}}, podTemplate: {topologySpreadConstraints: [{maxSkew: 1, minDomains: 3000000000, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]}}`, want: "minDomains"},
	"a weight that overflows":             {spec: `{tls: {secretRef: {name: a}}, podTemplate: {affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 3000000000, preference: {}}]}}}}`, want: "weight"},
	"a weight of pods that overflows":     {spec: `{tls: {secretRef: {name: a}}, podTemplate: {affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 3000000000, podAffinityTerm: {topologyKey: a}}]}}}}`, want: "weight"},
	"a toleration without end":            {spec: `{tls: {secretRef: {name: a}}, podTemplate: {tolerations: [{tolerationSeconds: 1e300}]}}`, want: "tolerationSeconds"},
	"a size in an exponent":               {spec: `{tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: "1e99"}}}}`, want: "storage.size"},
	"a size in no unit":                   {spec: `{tls: {secretRef: {name: a}}, database: {embedded: {storage: {size: "1"}}}}`, want: "storage.size"},
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
				// An object that was accepted by mistake must not break the list for the following
				// ones.
				defer func() { _ = c.Delete(context.Background(), object) }()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the rejection does not contain %q: %v", tc.want, err)
			}
		})
	}
	for name, tc := range map[string]struct{ name, want string }{
		"a name that is too long":       {name: strings.Repeat("a", 41), want: "at most 40 characters"},
		"a name that begins with digit": {name: "1a", want: "start with a letter"},
		"a name with a dot":             {name: "a.b", want: "only lower-case letters"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Create(t.Context(), unstructuredOf(t, namespace, "SecureNotes", tc.name, `{tls: {secretRef: {name: a}}}`))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the rejection does not contain %q: %v", tc.want, err)
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

// testOthersReconcile: after all rejections, and beside an object with the oddest amounts that
// admission permits, all objects can be listed and a new one is reconciled.
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
				t.Errorf("the rejection does not contain %q: %v", tc.want, err)
			}
		})
	}
	t.Run("compromise that rewraps", func(t *testing.T) {
		err := c.Create(t.Context(), unstructuredOf(t, namespace, "KeyRotation", "x", `{secureNotesRef: {name: a}, reason: Compromise, strategy: Rewrap}`))
		if err == nil || !strings.Contains(err.Error(), "set strategy to Reencrypt") {
			t.Errorf("the rejection does not say what to do: %v", err)
		}
	})
}
