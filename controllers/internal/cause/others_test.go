package cause

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestVolumeCauses has the causes of a claim without a volume. An empty reason means no problem.
func TestVolumeCauses(t *testing.T) {
	t.Parallel()
	// event is an event of a claim. The newest comes first.
	type event struct{ reason, words string }
	for name, tc := range map[string]struct {
		phase              corev1.PersistentVolumeClaimPhase
		age                time.Duration
		events             []event
		reason, fact, next string
	}{
		"no class":             {phase: corev1.ClaimPending, age: time.Minute, events: []event{{reason: "FailedBinding", words: "no persistent volumes available for this claim and no storage class is set"}}, reason: v1alpha1.ReasonVolumePending, fact: "no storage class is set", next: "a default one"},
		"a missing class":      {phase: corev1.ClaimPending, age: time.Minute, events: []event{{reason: "ProvisioningFailed", words: `storageclass.storage.k8s.io "fast" not found`}}, reason: v1alpha1.ReasonVolumePending, fact: `"fast" not found`, next: "create that StorageClass"},
		"a provisioner fails":  {phase: corev1.ClaimPending, age: time.Minute, events: []event{{reason: "ExternalProvisioning", words: "Waiting"}, {reason: "ProvisioningFailed", words: "rpc error: no space"}}, reason: v1alpha1.ReasonVolumePending, fact: "no space", next: "kubectl describe pvc notes-data"},
		"no provisioner":       {phase: corev1.ClaimPending, age: time.Minute, events: []event{{reason: "ExternalProvisioning", words: "Waiting for a volume to be created by 'csi.example.com'"}}, reason: v1alpha1.ReasonVolumePending, fact: "csi.example.com", next: "whether the provisioner"},
		"a first consumer":     {phase: corev1.ClaimPending, age: time.Hour, events: []event{{reason: "WaitForFirstConsumer", words: "waiting for first consumer to be created before binding"}}},
		"a pod without a node": {phase: corev1.ClaimPending, age: time.Hour, events: []event{{reason: "WaitForPodScheduled", words: "waiting for pod notes to be scheduled"}}},
		"created just now":     {phase: corev1.ClaimPending, age: time.Second, events: []event{{reason: "ProvisioningFailed", words: "x"}}},
		"bound":                {phase: corev1.ClaimBound, age: time.Hour, events: []event{{reason: "ProvisioningFailed", words: "x"}}},
		"no event":             {phase: corev1.ClaimPending, age: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "notes-data", CreationTimestamp: ago(tc.age)}}
			claim.Status.Phase = tc.phase
			lookup := Lookup{Now: func() time.Time { return now }, Events: func(client.Object) []corev1.Event {
				var all []corev1.Event
				for i, e := range tc.events {
					all = append(all, corev1.Event{Reason: e.reason, Message: e.words, EventTime: metav1.NewMicroTime(now.Add(-time.Duration(i) * time.Second))})
				}
				return all
			}}
			got := OfClaim(claim, lookup, now)
			if got.Reason != tc.reason || !strings.Contains(got.String(), tc.fact) || !strings.Contains(got.Next, tc.next) {
				t.Errorf("%s: %s", got.Reason, got)
			}
		})
	}
}

// TestCertificateCauses has the causes of a certificate that is not issued. An empty reason means
// that cert-manager is still working.
func TestCertificateCauses(t *testing.T) {
	t.Parallel()
	issuing := func(reason, words string) *certmanagerv1.Certificate {
		c := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls", CreationTimestamp: ago(time.Hour)}}
		c.Status.Conditions = []certmanagerv1.CertificateCondition{
			{Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionFalse, Message: "Issuing certificate as Secret does not exist"},
			{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionFalse, Reason: reason, Message: words},
		}
		if reason == "" {
			c.Status.Conditions[1].Status = cmmeta.ConditionTrue
		}
		return c
	}
	request := func(age time.Duration, conditions ...certmanagerv1.CertificateRequestCondition) *certmanagerv1.CertificateRequest {
		r := &certmanagerv1.CertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls-1", CreationTimestamp: ago(age)}}
		r.Status.Conditions = conditions
		return r
	}
	approved := certmanagerv1.CertificateRequestCondition{Type: certmanagerv1.CertificateRequestConditionApproved, Status: cmmeta.ConditionTrue}
	pending := certmanagerv1.CertificateRequestCondition{Type: certmanagerv1.CertificateRequestConditionReady, Status: cmmeta.ConditionFalse, Reason: certmanagerv1.CertificateRequestReasonPending, Message: "Failed to initialise vault client: permission denied"}
	denied := certmanagerv1.CertificateRequestCondition{Type: certmanagerv1.CertificateRequestConditionDenied, Status: cmmeta.ConditionTrue, Message: "no policy approved this request"}
	wordless := pending
	wordless.Message = ""
	issued := func(age time.Duration) certmanagerv1.CertificateRequestCondition {
		return certmanagerv1.CertificateRequestCondition{Type: certmanagerv1.CertificateRequestConditionReady, Status: cmmeta.ConditionTrue, LastTransitionTime: new(ago(age))}
	}
	// created returns a Certificate without a status. since sets when its issuance started.
	created := func(age time.Duration) *certmanagerv1.Certificate {
		return &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls", CreationTimestamp: ago(age)}}
	}
	since := func(c *certmanagerv1.Certificate, age time.Duration) *certmanagerv1.Certificate {
		c.Status.Conditions[1].LastTransitionTime = new(ago(age))
		return c
	}
	failed := pending
	failed.Reason = certmanagerv1.CertificateRequestReasonFailed
	for name, tc := range map[string]struct {
		certificate        *certmanagerv1.Certificate
		request            *certmanagerv1.CertificateRequest
		reason, fact, next string
	}{
		"the Certificate tells it":     {certificate: issuing("Failed", "The certificate request has failed to complete and will be retried: common name not allowed"), reason: v1alpha1.ReasonIssuanceFailed, fact: "common name not allowed", next: "cmctl renew notes-tls"},
		"the request was denied":       {certificate: issuing("", ""), request: request(time.Second, denied), reason: v1alpha1.ReasonIssuanceFailed, fact: "no policy approved", next: "cmctl renew"},
		"the request has failed":       {certificate: issuing("", ""), request: request(time.Second, approved, failed), reason: v1alpha1.ReasonIssuanceFailed, fact: "permission denied", next: "cmctl renew"},
		"the issuer cannot":            {certificate: issuing("", ""), request: request(time.Minute, approved, pending), reason: v1alpha1.ReasonIssuancePending, fact: "CertificateRequest notes-tls-1 is not issued yet: Failed to initialise vault client: permission denied", next: "see the issuer"},
		"no one approves":              {certificate: issuing("", ""), request: request(time.Minute), reason: v1alpha1.ReasonIssuancePending, fact: "is not approved", next: "approve it"},
		"the issuer takes its time":    {certificate: issuing("", ""), request: request(time.Second, approved, pending)},
		"no issuer answers":            {certificate: issuing("", ""), request: request(time.Minute, approved), reason: v1alpha1.ReasonIssuancePending, fact: "no controller of the issuer has answered CertificateRequest notes-tls-1", next: "whether the controller of the issuer runs"},
		"the issuer gives no message":  {certificate: issuing("", ""), request: request(time.Minute, approved, wordless), reason: v1alpha1.ReasonIssuancePending, fact: "is not issued yet", next: "see the issuer"},
		"it was issued just now":       {certificate: issuing("", ""), request: request(time.Minute, approved, issued(time.Second))},
		"it is issued, and not stored": {certificate: issuing("", ""), request: request(time.Hour, approved, issued(time.Minute)), reason: v1alpha1.ReasonIssuancePending, fact: "is issued, but cert-manager has not stored the certificate", next: "kubectl get resourcequota"},
		"no request":                   {certificate: issuing("", ""), reason: v1alpha1.ReasonIssuancePending, fact: "cert-manager has created no CertificateRequest notes-tls-1", next: "a ResourceQuota on secrets refuses the Secret that it needs (`kubectl get resourcequota`)"},
		"no cert-manager":              {certificate: created(time.Minute), reason: v1alpha1.ReasonIssuancePending, fact: "has created no CertificateRequest", next: "whether cert-manager runs"},
		"no request yet":               {certificate: created(time.Second)},
		"no request, it is new":        {certificate: since(issuing("", ""), time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			got := OfCertificate(tc.certificate, tc.request, ago(time.Minute).Time, now)
			if got.Reason != tc.reason || !strings.Contains(got.String(), tc.fact) || !strings.Contains(got.Next, tc.next) {
				t.Errorf("%s: %s", got.Reason, got)
			}
		})
	}
	if got := OfCertificate(issuing("", ""), nil, now, now); got.Known() {
		t.Errorf("the wait has begun now: %s", got)
	}
	if got := RequestName(&certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls"}}); got != "notes-tls-1" {
		t.Error(got)
	}
	renewed := &certmanagerv1.Certificate{ObjectMeta: metav1.ObjectMeta{Name: "notes-tls"}, Status: certmanagerv1.CertificateStatus{Revision: new(4)}}
	if got := RequestName(renewed); got != "notes-tls-5" {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	jobs := batchv1.Resource("jobs")
	services, claims := corev1.Resource("services"), corev1.Resource("persistentvolumeclaims")
	for name, tc := range map[string]struct {
		err          error
		reason, next string
	}{
		"a quota of Jobs": {err: fmt.Errorf("create: %w", apierrors.NewForbidden(jobs, "x", errors.New("exceeded quota: q, requested: count/jobs.batch=1"))), reason: v1alpha1.ReasonQuotaExceeded, next: "raise the ResourceQuota"},
		"a quota of node ports": {err: apierrors.NewForbidden(services, "x", errors.New("exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0")),
			reason: v1alpha1.ReasonQuotaExceeded, next: "free some of it, or set spec.service.type to ClusterIP"},
		"a quota of load balancers": {err: apierrors.NewForbidden(services, "x", errors.New("exceeded quota: q, requested: services.loadbalancers=1")), reason: v1alpha1.ReasonQuotaExceeded, next: "spec.service.type"},
		"a LimitRange of volumes": {err: apierrors.NewForbidden(claims, "x", errors.New("maximum storage usage per PersistentVolumeClaim is 500Mi, but request is 1Gi")),
			reason: v1alpha1.ReasonOutsideLimitRange, next: "set spec.database.embedded.storage.size to a size that the LimitRange of the namespace allows"},
		"an admission policy": {err: apierrors.NewForbidden(jobs, "x", errors.New("ValidatingAdmissionPolicy 'p' denied")), reason: v1alpha1.ReasonApplyFailed},
		"a field":             {err: apierrors.NewInvalid(batchv1.SchemeGroupVersion.WithKind("Job").GroupKind(), "x", nil), reason: v1alpha1.ReasonApplyFailed},
		"a conflict":          {err: apierrors.NewConflict(jobs, "x", errors.New("x"))},
		"no answer":           {err: errors.New("timeout")},
		"nothing":             {err: nil, reason: "", next: ""},
	} {
		if got := OfError(tc.err); got.Reason != tc.reason || !strings.Contains(got.Next, tc.next) {
			t.Errorf("%s: %s: %s", name, got.Reason, got)
		}
	}
}

// TestReadyz checks that an answer of /readyz is limited in size and time, and that redirects are
// not followed.
func TestReadyz(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"not ready": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("Vault is sealed\n"))
		}, want: "Vault is sealed"},
		"ready": {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }, want: ""},
		"elsewhere": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}, want: ""},
		"without end": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			for range 100 {
				_, _ = w.Write([]byte(strings.Repeat("x", 1000)))
			}
		}, want: strings.Repeat("x", maxReadyz)},
		"silent": {handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tc.handler)
			defer server.Close()
			if got := readyz(t.Context(), server.URL); got != tc.want {
				t.Errorf("%d bytes: %.80s", len(got), got)
			}
		})
	}
}
