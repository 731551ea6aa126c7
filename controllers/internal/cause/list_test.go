package cause

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

var now = time.Unix(1_800_000_000, 0)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// lookWith returns a Lookup with this message as the event of every object, and as the answer of
// /readyz.
func lookWith(reason, message string) Lookup {
	return Lookup{
		Now: func() time.Time { return now },
		Events: func(client.Object) []corev1.Event {
			return []corev1.Event{{Reason: reason, Message: message, LastTimestamp: ago(time.Minute)}}
		},
		Readyz: func(*corev1.Pod) string { return message },
	}
}

// Messages of Kubernetes 1.37.
const (
	overQuota  = `pods "notes-7c5d-x2bcf" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0`
	noAmount   = `pods "notes-7c5d-x2bcf" is forbidden: failed quota: small: must specify limits.cpu for: api,migrate`
	noPriority = `pods "notes-7c5d-x2bcf" is forbidden: no PriorityClass with name vip was found`
	tooLittle  = `pods "notes-rotate-v2-1-0-k2x9d" is forbidden: minimum cpu usage per Container is 50m, but request is 10m`
	tooMuch    = `pods "notes-7c5d-x2bcf" is forbidden: maximum memory usage per Container is 128Mi, but limit is 256Mi`
	unsafe     = `pods "notes-7c5d-x2bcf" is forbidden: violates PodSecurity "restricted:latest": privileged (container "mesh" must not set securityContext.privileged=true)`
	hooked     = `admission webhook "deny.example.com" denied the request: not today`
)

func deployment(words string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "notes"}}
	d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: words}}
	return d
}

func job(changes ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "notes-rotate-v2-1", UID: "job", CreationTimestamp: ago(time.Minute)}}
	for _, change := range changes {
		change(j)
	}
	return j
}

func pod(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notes-7c5d-x2bcf", CreationTimestamp: ago(time.Minute)}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	for _, change := range changes {
		change(p)
	}
	return p
}

// podOf returns a pod of the Job with this index and age.
func podOf(index string, age time.Duration, changes ...func(*corev1.Pod)) corev1.Pod {
	p := pod(changes...)
	p.Name, p.CreationTimestamp = "notes-rotate-v2-1-"+index+"-"+age.String(), ago(age)
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", UID: "job", Controller: new(true)}}
	return *p
}

func withoutNode(message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: message}}
	}
}

func container(name string, state, last corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		status := corev1.ContainerStatus{Name: name, State: state, LastTerminationState: last, RestartCount: 2}
		if name == operand.MigrateContainer || name == "istio-init" {
			p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, status)
			return
		}
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, status)
	}
}

func waits(reason, words string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: words}}
}

func ended(code int32, reason, words string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: words, FinishedAt: ago(time.Minute)}}
}

func runsFor(d time.Duration) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(d)}}
}

func failed(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }

var (
	runs        = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	none        = corev1.ContainerState{}
	vaultSealed = `{"reason":"VaultSealed","message":"Vault is sealed: unseal it"}`
	migrate     = container(operand.MigrateContainer, ended(0, "Completed", ""), none)
)

// TestCauses has each cause, and what the condition then shows: the reason, a part of the quoted
// message, and the next step.
func TestCauses(t *testing.T) {
	t.Parallel()
	suspended := func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}
	}
	hit := map[string]bool{}
	for name, tc := range map[string]struct {
		cause              Cause
		reason, fact, next string
	}{
		"a quota":                        {cause: OfDeployment(deployment(overQuota)), reason: v1alpha1.ReasonQuotaExceeded, fact: "exceeded quota: small", next: "raise the ResourceQuota"},
		"a quota that asks for amounts":  {cause: OfDeployment(deployment(noAmount)), reason: v1alpha1.ReasonQuotaExceeded, fact: "must specify limits.cpu", next: "set these amounts in spec.resources"},
		"a missing priority class":       {cause: OfDeployment(deployment(noPriority)), reason: v1alpha1.ReasonPriorityClassNotFound, fact: "name vip", next: "create the PriorityClass"},
		"a LimitRange":                   {cause: OfDeployment(deployment(tooMuch)), reason: v1alpha1.ReasonOutsideLimitRange, fact: "maximum memory usage per Container is 128Mi", next: "set spec.resources"},
		"Pod Security":                   {cause: OfDeployment(deployment(unsafe)), reason: v1alpha1.ReasonPodsRefused, fact: `container "mesh"`, next: "mutating webhooks"},
		"a webhook":                      {cause: OfDeployment(deployment(hooked)), reason: v1alpha1.ReasonPodsRefused, fact: "not today", next: "correct the admission webhook, the policy or the namespace"},
		"a full cluster":                 {cause: OfPod(pod(withoutNode("0/3 nodes are available: 3 Insufficient cpu.")), Lookup{}, now), reason: v1alpha1.ReasonUnschedulable, fact: "3 Insufficient cpu: add", next: "add a node, or lower spec.resources"},
		"a taint":                        {cause: OfPod(pod(withoutNode("0/3 nodes are available: 3 node(s) had untolerated taint {a: b}.")), Lookup{}, now), reason: v1alpha1.ReasonUnschedulable, fact: "untolerated taint", next: "spec.podTemplate"},
		"a volume":                       {cause: OfPod(pod(withoutNode("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.")), Lookup{}, now), reason: v1alpha1.ReasonUnschedulable, fact: "unbound", next: "DatabaseReady"},
		"a gate":                         {cause: OfPod(pod(withoutNode("Scheduling is blocked due to non-empty scheduling gates")), Lookup{}, now), reason: v1alpha1.ReasonUnschedulable, fact: "gates", next: "kubectl describe pod"},
		"an image":                       {cause: OfPod(pod(container(operand.MigrateContainer, waits("ImagePullBackOff", `Back-off pulling image "x": 401 Unauthorized`), none)), Lookup{}, now), reason: v1alpha1.ReasonImagePullFailed, fact: "401 Unauthorized", next: "operand.image"},
		"a container without its config": {cause: OfPod(pod(migrate, container("api", waits("CreateContainerConfigError", "secret not found"), none)), Lookup{}, now), reason: v1alpha1.ReasonContainerNotCreated, fact: "secret not found", next: "kubectl describe pod"},
		"memory":                         {cause: OfPod(pod(migrate, container("api", waits("CrashLoopBackOff", ""), ended(137, "OOMKilled", ""))), Lookup{}, now), reason: v1alpha1.ReasonOOMKilled, fact: "container api of pod notes-7c5d-x2bcf", next: "limits.memory"},
		"memory of migrate":              {cause: OfPod(pod(container(operand.MigrateContainer, ended(137, "OOMKilled", ""), none)), Lookup{}, now), reason: v1alpha1.ReasonOOMKilled, fact: "container migrate", next: "limits.memory"},
		"the service's own reason":       {cause: OfPod(pod(migrate, container("api", waits("CrashLoopBackOff", ""), ended(1, "Error", vaultSealed))), Lookup{}, now), reason: config.ReasonVaultSealed, fact: "Vault is sealed", next: "unseal it"},
		"a crash without a reason":       {cause: OfPod(pod(migrate, container("api", waits("CrashLoopBackOff", ""), ended(2, "Error", "goroutine 1 [running]"))), Lookup{}, now), reason: v1alpha1.ReasonContainerCrashing, fact: "exit code 2 (2 restarts)", next: "kubectl logs --previous"},
		"an injected init container":     {cause: OfPod(pod(container(operand.MigrateContainer, ended(0, "Completed", ""), ended(1, "Error", vaultSealed)), container("istio-init", waits("CrashLoopBackOff", ""), ended(3, "Error", "")), container("api", waits("PodInitializing", ""), none)), Lookup{}, now), reason: v1alpha1.ReasonContainerCrashing, fact: "container istio-init of pod notes-7c5d-x2bcf ended with exit code 3", next: "kubectl logs --previous"},
		"one of a Job":                   {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("istio-init", ended(3, "Error", ""), none), container("job", waits("PodInitializing", ""), none))}, Lookup{}, now), reason: v1alpha1.ReasonContainerCrashing, fact: "container istio-init", next: "kubectl logs --previous"},
		"a service beside a sidecar":     {cause: OfPod(pod(migrate, container("istio-init", runs, ended(1, "Error", "")), container("api", waits("CrashLoopBackOff", ""), ended(1, "Error", vaultSealed))), Lookup{}, now), reason: config.ReasonVaultSealed, fact: "Vault is sealed", next: "unseal it"},
		"a Secret that is not there":     {cause: OfPod(pod(), lookWith("FailedMount", `MountVolume.SetUp failed for volume "tls" : secret "own" not found`), now), reason: v1alpha1.ReasonPodNotStarted, fact: `secret "own" not found (event of 2027-01-15T07:59:00Z)`, next: "correct the cause; the kubelet retries within about two minutes"},
		"a service that waits":           {cause: OfPod(pod(migrate, container("api", runs, none)), lookWith("", "the audit log cannot be written"), now), reason: v1alpha1.ReasonNotReady, fact: "the audit log cannot be written", next: "see the log of the pod"},
		"a service that cannot be asked": {cause: OfPod(pod(migrate, container("api", runs, none)), Lookup{}, now), reason: v1alpha1.ReasonNotReady, fact: "runs but is not ready", next: "see the log of the pod"},
		"a service without its database": {cause: OfPod(pod(migrate, container("api", runs, none)), lookWith("", "DatabaseUnreachable: connection refused"), now), reason: config.ReasonDatabaseUnreachable, fact: "connection refused"},
		"a service during a restore":     {cause: OfPod(pod(migrate, container("api", runs, ended(1, "Error", `{"reason":"DatabaseRestored","message":"x"}`))), lookWith("", "DatabaseRestoring: run it again"), now), reason: config.ReasonDatabaseRestoring, fact: "run it again"},
		"a service that never starts":    {cause: OfPod(pod(migrate, container("api", runsFor(30*time.Second), none)), lookWith("", "starting"), now), reason: v1alpha1.ReasonNotReady, fact: "starting", next: "see the log of the pod"},
		"a loss that /readyz reports":    {cause: OfPod(pod(migrate, container("api", runs, none)), lookWith("", "DatabaseLost: empty"), now), reason: v1alpha1.ReasonNotReady, fact: "empty", next: "see the log of the pod"},

		"a Job whose pods are over quota":  {cause: OfJob(job(), 1, nil, lookWith("FailedCreate", "Error creating: "+overQuota), now), reason: v1alpha1.ReasonQuotaExceeded, fact: "the pods of Job notes-rotate-v2-1: exceeded quota", next: "raise the ResourceQuota"},
		"a Job below a LimitRange":         {cause: OfJob(job(), 1, nil, lookWith("FailedCreate", "Error creating: "+tooLittle), now), reason: v1alpha1.ReasonOutsideLimitRange, fact: "minimum cpu usage per Container is 50m", next: "Jobs request the same amounts"},
		"a Job that lacks one pod of two":  {cause: OfJob(job(), 2, []corev1.Pod{podOf("0", time.Minute)}, lookWith("FailedCreate", "Error creating: "+overQuota), now), reason: v1alpha1.ReasonQuotaExceeded, fact: "exceeded quota", next: "raise"},
		"a Job without any event":          {cause: OfJob(job(), 1, nil, Lookup{}, now), reason: v1alpha1.ReasonPodsMissing, fact: "Job notes-rotate-v2-1 has no pod", next: "kube-controller-manager"},
		"a suspended Job":                  {cause: OfJob(job(suspended), 1, nil, Lookup{}, now), reason: v1alpha1.ReasonJobSuspended, fact: "is suspended", next: "spec.suspend"},
		"a Job beside a full node":         {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, withoutNode("1 node(s) didn't match pod affinity rules."))}, Lookup{}, now), reason: v1alpha1.ReasonUnschedulable, fact: "affinity rules", next: "free resources on the node of the API pod"},
		"a Job whose pod was killed":       {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", ended(137, "OOMKilled", ""), none), failed)}, Lookup{}, now), reason: v1alpha1.ReasonOOMKilled, fact: "container job", next: "limits.memory"},
		"a Job that is tried again":        {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", ended(1, "Error", vaultSealed), none), failed)}, Lookup{}, now), reason: config.ReasonVaultSealed, fact: "Vault is sealed", next: "unseal"},
		"a Job whose second index fails":   {cause: OfJob(job(), 2, []corev1.Pod{podOf("0", time.Second, container("job", runs, none)), podOf("1", time.Minute, container("job", ended(1, "Error", vaultSealed), none), failed)}, Lookup{}, now), reason: config.ReasonVaultSealed, fact: "Vault is sealed", next: "unseal"},
		"a Job that a sidecar keeps alive": {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", ended(0, "Completed", ""), none), container("istio-proxy", runs, none))}, Lookup{}, now), reason: v1alpha1.ReasonSidecarRunning, fact: "istio-proxy", next: "restartPolicy Always; then delete the Job"},
		"a failed pod that sidecars keep":  {cause: OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", ended(1, "Error", vaultSealed), none), container("a", runs, none), container("b", runs, none))}, Lookup{}, now), reason: v1alpha1.ReasonSidecarRunning, fact: "exit code 1, but other containers of pod notes-rotate-v2-1-0-1m0s still run (a, b)", next: "delete the Job"},
	} {
		t.Run(name, func(t *testing.T) {
			message := tc.cause.String()
			if tc.cause.Reason != tc.reason || !strings.Contains(message, tc.fact) || !strings.Contains(message, tc.next) {
				t.Errorf("%s: %s\nwant %s with %q and %q", tc.cause.Reason, message, tc.reason, tc.fact, tc.next)
			}
			if strings.Contains(message, "is forbidden") {
				t.Errorf("the message has a name that changes with each attempt: %s", message)
			}
			hit[tc.cause.Reason+tc.cause.Next] = true
		})
	}
	for _, rule := range rules {
		if rule.next != "" && !hit[rule.reason+rule.next] {
			t.Errorf("no case shows the cause %s: %s", rule.reason, rule.next)
		}
	}
}

// TestNoCause has states that are no problem, or that may still resolve themselves.
func TestNoCause(t *testing.T) {
	t.Parallel()
	young := pod(withoutNode("0/3 nodes are available"))
	young.CreationTimestamp = ago(time.Second)
	starting := pod(migrate, container("api", runs, none))
	starting.CreationTimestamp = ago(time.Second)
	stranger := podOf("0", time.Minute, container("job", ended(1, "Error", vaultSealed), none), failed)
	stranger.OwnerReferences[0].UID = types.UID("another")
	for name, got := range map[string]Cause{
		"a healthy Deployment":                OfDeployment(&appsv1.Deployment{}),
		"a pod that was created just now":     OfPod(young, Lookup{}, now),
		"a pod that starts":                   OfPod(starting, lookWith("", "starting"), now),
		"a migration that takes long":         OfPod(pod(container(operand.MigrateContainer, runs, none)), lookWith("FailedMount", "an earlier failure"), now),
		"a service that begins its work":      OfPod(pod(migrate, container("api", runsFor(29*time.Second), none)), lookWith("", "starting"), now),
		"a container that began late":         OfPod(pod(migrate, container("api", runsFor(time.Second), none)), Lookup{}, now),
		"a pod that is being created":         OfPod(pod(), Lookup{}, now),
		"a service that has come back":        OfPod(pod(migrate, container("api", runs, ended(1, "Error", `{"reason":"DatabaseLost","message":"x"}`))), Lookup{}, now.Add(-50*time.Second)),
		"a service on a restored database":    OfPod(pod(migrate, container("api", runs, ended(1, "Error", `{"reason":"DatabaseRestored","message":"x"}`))), Lookup{}, now.Add(-50*time.Second)),
		"a service after an unfinished one":   OfPod(pod(migrate, container("api", runs, ended(1, "Error", `{"reason":"DatabaseRestoring","message":"x"}`))), Lookup{}, now.Add(-50*time.Second)),
		"a Job that was created just now":     OfJob(job(func(j *batchv1.Job) { j.CreationTimestamp = ago(time.Second) }), 1, nil, lookWith("FailedCreate", overQuota), now),
		"a Job at work":                       OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", runs, none))}, lookWith("FailedCreate", overQuota), now),
		"a Job whose second try is at work":   OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", ended(1, "Error", vaultSealed), none), failed), podOf("0", time.Second, container("job", runs, none))}, Lookup{}, now),
		"a Job beside a sidecar":              OfJob(job(), 1, []corev1.Pod{podOf("0", time.Minute, container("job", runs, none), container("istio-proxy", runs, none))}, Lookup{}, now),
		"a Job that one index of two has led": OfJob(job(func(j *batchv1.Job) { j.Status.Succeeded = 1 }), 2, []corev1.Pod{podOf("1", time.Minute, container("job", runs, none))}, lookWith("FailedCreate", overQuota), now),
		"a message of a forged pod":           OfJob(job(func(j *batchv1.Job) { j.Status.Succeeded = 1 }), 1, []corev1.Pod{stranger}, Lookup{}, now),
	} {
		if got.Known() {
			t.Errorf("%s: %s: %s", name, got.Reason, got)
		}
	}
}

// TestOldEventsAreHistory checks that an event from an hour ago is ignored.
func TestOldEventsAreHistory(t *testing.T) {
	t.Parallel()
	lookup := lookWith("FailedCreate", overQuota)
	lookup.Now = func() time.Time { return now.Add(time.Hour) }
	if got := OfJob(job(), 1, nil, lookup, now); got.Reason != v1alpha1.ReasonPodsMissing {
		t.Errorf("%s: %s", got.Reason, got)
	}
}

// TestWords checks that a quoted message becomes one line of bounded length without secrets.
func TestWords(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"lines and colours":        {text: "a\r\nb\x1b[31mc", want: "a  b [31mc"},
		"marks that turn text":     {text: "a\u202eb\u200bc", want: "a b c"},
		"a login in a URI":         {text: "dial postgres://u:p@ss@host:5432/db?x=y@z", want: "dial postgres://…@host:5432/db?x=y@z"},
		"a registry's login":       {text: `pull "https://robot:s3cret@registry.example.com/v2/"`, want: `pull "https://…@registry.example.com/v2/"`},
		"a token of Vault":         {text: "token hvs.CAESIJx_y-z is bad", want: "token … is bad"},
		"tokens of Vault's past":   {text: "s.AbCdEfGhIjKlMnOpQrStUvWx, b.AAAAAQLx_y-zAAAAAQLxyzAAAAAQ and s.AbCdEfGhIjKlMnOpQrStUvWx.ns1 expired", want: "…, … and … expired"},
		"shorter words with dots":  {text: "keys.AbCdEfGhIjKlMnOpQrStUvWx, s.example.com", want: "keys.AbCdEfGhIjKlMnOpQrStUvWx, s.example.com"},
		"a JSON Web Token":         {text: "Bearer eyJhbGciOi.eyJzdWIi.c2ln rejected", want: "Bearer … rejected"},
		"what looks a bit like it": {text: "hvac://host, keys.a.b and user@host", want: "hvac://host, keys.a.b and user@host"},
		"ports of this time":       {text: "lookup db on 10.96.0.10:53: read udp 10.1.2.3:40123->10.96.0.10:53: timeout, [::1]:5->[::1]:6", want: "lookup db on 10.96.0.10:53: read udp 10.96.0.10:53: timeout, [::1]:6"},
		"no text":                  {text: "a\xffb", want: "ab"},
	} {
		if got := Sanitize(tc.text); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	for _, long := range []string{strings.Repeat("ä", 1000), strings.Repeat("x", 100_000), "://" + strings.Repeat("x", 100_000) + "@"} {
		if got := Sanitize(long); len(got) > maxMessage+len("…") || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes of %d", len(got), len(long))
		}
	}
}
