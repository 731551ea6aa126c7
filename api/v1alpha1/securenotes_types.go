package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SecureNotes runs an HTTPS notes service: a Deployment, its TLS certificate and configuration, and
// a master key in Vault that protects the notes.
//
// The namespace is the trust boundary: anyone who can create Pods in it, or edit this object, can
// read the notes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:path=securenotes,singular=securenotes,shortName=sn,categories=all
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="URL",type=string,JSONPath=`.status.url`
// +kubebuilder:printcolumn:name="Key version",type=integer,JSONPath=`.status.masterKey.latestVersion`
// +kubebuilder:printcolumn:name="Next rotation",type=string,format=date-time,JSONPath=`.status.masterKey.nextRotationTime`
// +kubebuilder:printcolumn:name="Last backup",type=date,priority=1,JSONPath=`.status.backup.last.uploadTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must have at most 40 characters, start with a letter, end with a letter or digit, and contain only lower-case letters, digits and dashes: choose another name"
// +kubebuilder:validation:XValidation:rule="quantity((has(self.spec.database) && has(self.spec.database.embedded) && has(self.spec.database.embedded.storage) && has(self.spec.database.embedded.storage.size) ? self.spec.database.embedded.storage.size : '1Gi')).compareTo(quantity((has(oldSelf.spec.database) && has(oldSelf.spec.database.embedded) && has(oldSelf.spec.database.embedded.storage) && has(oldSelf.spec.database.embedded.storage.size) ? oldSelf.spec.database.embedded.storage.size : '1Gi'))) >= 0 || quantity((has(self.spec.database) && has(self.spec.database.embedded) && has(self.spec.database.embedded.storage) && has(self.spec.database.embedded.storage.size) ? self.spec.database.embedded.storage.size : '1Gi')).compareTo(quantity((has(self.status) && has(self.status.volumeSize) ? self.status.volumeSize : '0'))) >= 0",message="database.embedded.storage.size can only grow (1Gi when unset), because a volume cannot shrink: set it to status.volumeSize or more"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.backup) || !has(self.spec.backup.destination.persistentVolumeClaim) || self.spec.backup.destination.persistentVolumeClaim.claimName != self.metadata.name + '-data'",message="backup.destination.persistentVolumeClaim cannot be the volume of the embedded database, because a backup must outlive it: name another claim"
type SecureNotes struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of the service.
	// +required
	Spec SecureNotesSpec `json:"spec,omitzero"`

	// status is the state that the operator last observed.
	// +kubebuilder:default={"observedGeneration":-1}
	// +optional
	Status SecureNotesStatus `json:"status,omitempty,omitzero"`
}

// SecureNotesSpec is the desired state of a SecureNotes.
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.postgres)) || !has(self.replicas) || self.replicas == 1",message="replicas must be 1 with the embedded database (database.embedded, or database unset), because only one process can open it: set replicas to 1, or use database.postgres"
// +kubebuilder:validation:XValidation:rule="!has(self.rateLimits) || !has(self.rateLimits.memory) || (has(self.replicas) ? self.replicas == 1 : !(has(self.database) && has(self.database.postgres)))",message="rateLimits.memory works with one replica only: set replicas to 1, remove rateLimits.memory to count in the database, or use rateLimits.redis"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.postgres)) == (has(oldSelf.database) && has(oldSelf.database.postgres))",message="database cannot change between postgres and embedded, because the notes would stay in the old database: create another SecureNotes and move the notes through the API"
// +kubebuilder:validation:XValidation:rule="(has(self.vaultConnection) ? self.vaultConnection : 'default') == (has(oldSelf.vaultConnection) ? oldSelf.vaultConnection : 'default')",message="vaultConnection cannot be changed, because the master key cannot leave its Vault: create another SecureNotes and move the notes through the API"
// +kubebuilder:validation:XValidation:rule="(has(self.database) && has(self.database.embedded) && has(self.database.embedded.storage) && has(self.database.embedded.storage.storageClassName) ? [self.database.embedded.storage.storageClassName] : []) == (has(oldSelf.database) && has(oldSelf.database.embedded) && has(oldSelf.database.embedded.storage) && has(oldSelf.database.embedded.storage.storageClassName) ? [oldSelf.database.embedded.storage.storageClassName] : [])",message="database.embedded.storage.storageClassName cannot be changed, because a volume cannot move to another class: create another SecureNotes and move the notes through the API"
// +kubebuilder:validation:XValidation:rule="!has(self.tls.certManager) || !has(self.tls.certManager.serviceNames) || self.tls.certManager.serviceNames == 'Include' || has(self.hostnames) && size(self.hostnames) > 0",message="tls.certManager.serviceNames cannot be Exclude without hostnames, because the certificate would have no name: add one to hostnames, or set serviceNames to Include"
// +kubebuilder:validation:XValidation:rule="!has(self.tls.certManager) || !has(self.tls.certManager.commonName) || self.tls.certManager.commonName == 'None' || has(self.hostnames) && self.hostnames.exists(h, h.size() <= 64)",message="tls.certManager.commonName cannot be FirstHostname without a hostname of 64 characters or fewer: add one to hostnames, or remove commonName"
type SecureNotesSpec struct {
	// replicas is the number of pods that serve the API, from 1 to 100. It must be 1 with the
	// embedded database, which only one process can open. If it is unset, the operator writes the
	// default to this field, because autoscalers need a number there: 2 with database.postgres,
	// otherwise 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// resources are the compute resources of each pod of the API and of the Jobs. If
	// unset, a pod requests 100m CPU and 64Mi memory, and its memory limit is 256Mi. A pod of a
	// routine rotation then requests only 10m CPU, so that the API is served first. A change
	// restarts the API pods.
	// +optional
	Resources *Resources `json:"resources,omitempty"`

	// podTemplate adds metadata and scheduling settings to the pods of the API and of the rotation
	// Jobs. It cannot change what the pods run. A change restarts the API pods.
	// +optional
	PodTemplate *PodTemplate `json:"podTemplate,omitempty"`

	// hostnames are the DNS names that clients use, at most 16. The certificate includes them in
	// addition to the names of the Service. status.url uses the first hostname that the certificate
	// includes. Each must be in lower case, without a wildcard, and have a dot; localhost is the
	// exception. IP addresses and the names of Services and pods in the cluster are not allowed.
	// Server-side apply replaces the whole list.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('[A-Z*]'))",message="hostnames must be in lower case and without a wildcard: write each name, such as notes.example.com"
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('(^|[.])[0-9]+$'))",message="an IP address cannot be one of hostnames, because these are DNS names in the certificate: use a DNS name, or leave the address out and provide a certificate for it in tls.secretRef"
	// +kubebuilder:validation:XValidation:rule="self.all(h, h.contains('.') || h == 'localhost')",message="a name without a dot cannot be one of hostnames, because it may be the Service of another team: write the full name, such as notes.example.com"
	// +kubebuilder:validation:XValidation:rule="self.all(h, !h.matches('(^|[.])cluster[.]local$|[.](svc|pod)$|^[^.]+[.][^.]+[.](.+[.])?svc[.]|^[0-9a-f]*-[0-9a-f-]+[.][^.]+[.]pod[.]'))",message="names of Services and pods in the cluster cannot be hostnames: remove them; the certificate includes the names of this object's own Service, unless tls.certManager.serviceNames is Exclude"
	// +listType=atomic
	// +optional
	Hostnames []string `json:"hostnames,omitempty"`

	// service configures the Service that exposes the API.
	// +optional
	Service *Service `json:"service,omitempty"`

	// tls is the source of the server's certificate: cert-manager or a Secret.
	// +required
	TLS TLS `json:"tls,omitzero"`

	// vaultConnection is the name of one of the Vault connections in the operator's configuration.
	// Defaults to default. It cannot be changed, because the master key cannot leave its Vault.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	VaultConnection string `json:"vaultConnection,omitempty"`

	// database is where the notes are stored. If unset, it is an embedded database with default
	// settings. It cannot be changed from postgres to embedded or back.
	// +optional
	Database *Database `json:"database,omitempty"`

	// keyRotation is the policy for rotating the master key. If unset, the key is rotated only on
	// request: by a KeyRotation object or the annotation securenotes.dev/rotate-requested-at.
	// +optional
	KeyRotation *KeyRotationPolicy `json:"keyRotation,omitempty"`

	// backup makes encrypted backups. If unset, none are made.
	// +optional
	Backup *BackupPolicy `json:"backup,omitempty"`

	// auth configures registration, sessions and passwords. A change restarts the API pods.
	// +optional
	Auth *Auth `json:"auth,omitempty"`

	// rateLimits limit failed logins, registrations and requests. A request over a limit gets
	// status 429. A change restarts the API pods.
	// +optional
	RateLimits *RateLimits `json:"rateLimits,omitempty"`

	// quotas limit the number of accounts and what each user can store. A request over a quota gets
	// status 403. A change restarts the API pods.
	// +optional
	Quotas *Quotas `json:"quotas,omitempty"`

	// trustedProxies are the IP addresses or networks, such as 10.0.0.0/8, of proxies that may
	// report a client's address, in X-Forwarded-For or in the PROXY protocol. At most 64. If unset,
	// no proxy is trusted: all clients behind a proxy then share its address, and its rate limits.
	// A change restarts the API pods.
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.all(p, isIP(p) || isCIDR(p))",message="each of trustedProxies must be an IP address, or a network such as 10.0.0.0/8"
	// +listType=set
	// +optional
	TrustedProxies []string `json:"trustedProxies,omitempty"`

	// cors lists the origins whose web pages may call the API. If unset, pages of other origins may
	// not. A change restarts the API pods.
	// +optional
	CORS *CORS `json:"cors,omitempty"`

	// deletionPolicy determines what happens to the master key, the session keys, the pepper and
	// the embedded database when this object is deleted. Retain keeps them. Delete destroys them.
	// This cannot be undone, and no note can be read afterwards, wherever the database is. For
	// Delete, the Vault administrator must first run `operator vault-setup --allow-shred`. The
	// deletion waits while spec.backup has backups without escrow, which need the keys. Defaults to
	// Retain.
	// +kubebuilder:validation:Enum=Retain;Delete
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// adoptRetainedKey lets this object take over the master key and the embedded database that a
	// deleted SecureNotes of the same name left in this namespace. It has an effect only while this
	// object has no keys. If the namespace was deleted and recreated, use adoptRetainedKeyOf. The
	// object gets new session keys, so users must log in again. Defaults to false.
	// +optional
	AdoptRetainedKey *bool `json:"adoptRetainedKey,omitempty"`

	// adoptRetainedKeyOf is the UID of a SecureNotes of the same name whose master key this object
	// takes over. That SecureNotes was in an earlier namespace of this name, or in a cluster that
	// was lost. The Vault administrator finds the UID with `operator retained list`. It has an
	// effect once, while this object has no keys.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-]+$`
	// +optional
	AdoptRetainedKeyOf string `json:"adoptRetainedKeyOf,omitempty"`

	// suspend stops the operator from changing anything for this object, except when the object is
	// deleted. The service keeps running. Rotations that have started wait. Defaults to false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`
}

// DeletionPolicy determines what happens to keys and data when a SecureNotes is deleted.
type DeletionPolicy string

const (
	// DeletionPolicyRetain keeps keys and data.
	DeletionPolicyRetain DeletionPolicy = "Retain"
	// DeletionPolicyDelete destroys keys and data.
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// Resources are the compute resources of a container.
type Resources struct {
	// requests are the minimum amounts that are reserved, by resource name. At most 8.
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="a resource name can have at most 317 characters: use a valid resource name"
	// +optional
	Requests map[string]Quantity `json:"requests,omitempty"`

	// limits are the maximum amounts that may be used, by resource name. At most 8.
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="a resource name can have at most 317 characters: use a valid resource name"
	// +optional
	Limits map[string]Quantity `json:"limits,omitempty"`
}

// PodTemplate is the fixed set of pod settings that a tenant may change. It has no images,
// commands, environment variables or volumes: those could run other code with the service's access
// to its keys.
type PodTemplate struct {
	// labels are added to the pods, at most 32. Labels that the operator or the Job controller sets
	// are not allowed.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 63)",message="a label key can have at most 317 characters and a value at most 63: shorten it"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('app.kubernetes.io/') || k.startsWith('securenotes.dev/'))",message="labels under app.kubernetes.io/ and securenotes.dev/ are reserved for the operator: choose another prefix"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k == 'job-name' || k == 'controller-uid' || k.startsWith('batch.kubernetes.io/'))",message="the labels job-name and controller-uid, and labels under batch.kubernetes.io/, are reserved for the Job controller, and Kubernetes rejects Jobs that set them: choose another key"
	// +optional
	Labels map[string]string `json:"labels,omitempty"`

	// annotations are added to the pods, at most 32. Keys under securenotes.dev/ are not allowed.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 4096)",message="an annotation key can have at most 317 characters and a value at most 4096: shorten it"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('securenotes.dev/'))",message="annotations under securenotes.dev/ are reserved for the operator: choose another prefix"
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`

	// nodeSelector is the set of labels that a node must have to run the pods, at most 32.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 63)",message="a label key can have at most 317 characters and a value at most 63: shorten it"
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// tolerations are the node taints that the pods tolerate, at most 16.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity is the scheduling affinity of the API pods. Rotation Jobs ignore it.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints determine how the API pods are spread, at most 8. If unset, the
	// pods are spread across nodes, and across zones if nodes have zone labels, as far as possible.
	// An empty list turns spreading off.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	TopologySpreadConstraints *[]corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// priorityClassName is the name of the PriorityClass of the pods. It cannot start with system-.
	// If unset, the cluster's default applies.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('system-')",message="priorityClassName cannot start with system-, because those classes are reserved for the cluster's own pods: choose another PriorityClass"
	// +optional
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// imagePullSecrets are the Secrets of the same namespace that authenticate image pulls, at most
	// 8.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ImagePullSecrets []LocalObjectReference `json:"imagePullSecrets,omitempty"`
}

// Service configures the Service that exposes the API.
// +kubebuilder:validation:XValidation:rule="!has(self.externalTrafficPolicy) || (has(self.type) && self.type != 'ClusterIP')",message="externalTrafficPolicy has no effect on a Service of type ClusterIP: set type to NodePort or LoadBalancer, or remove externalTrafficPolicy"
type Service struct {
	// type is the type of the Service: ClusterIP, NodePort or LoadBalancer. Defaults to ClusterIP.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`

	// externalTrafficPolicy determines which nodes accept traffic from outside the cluster. It
	// requires the type NodePort or LoadBalancer. With Local, only nodes that run an API pod accept
	// it, and the pod sees the client's address. With Cluster, every node accepts it, and the pod
	// sees the node's address: all clients of a node then share one limit of failed logins.
	// Defaults to Local.
	// +kubebuilder:validation:Enum=Local;Cluster
	// +optional
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`

	// annotations are added to the Service, at most 32, for example to configure a load balancer.
	// Keys under securenotes.dev/ are not allowed.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && self[k].size() <= 4096)",message="an annotation key can have at most 317 characters and a value at most 4096: shorten it"
	// +kubebuilder:validation:XValidation:rule="!self.exists(k, k.startsWith('securenotes.dev/'))",message="annotations under securenotes.dev/ are reserved for the operator: choose another prefix"
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// TLS is the source of the server's certificate. Exactly one field must be set.
// +kubebuilder:validation:XValidation:rule="has(self.certManager) != has(self.secretRef)",message="tls needs exactly one of certManager and secretRef"
type TLS struct {
	// certManager requests a certificate from cert-manager, which also renews it.
	// +optional
	CertManager *CertManager `json:"certManager,omitempty"`

	// secretRef names a Secret of type kubernetes.io/tls in the same namespace, which you create
	// and renew. The service reads it again when it changes, without a restart.
	// +optional
	SecretRef *LocalObjectReference `json:"secretRef,omitempty"`
}

// CertManager configures the certificate that cert-manager issues.
// +kubebuilder:validation:XValidation:rule="duration(has(self.renewBefore) ? self.renewBefore : (has(self.duration) ? '1s' : '720h')) < duration(has(self.duration) ? self.duration : '2160h')",message="renewBefore must be shorter than duration (2160h when unset): lower renewBefore or raise duration"
type CertManager struct {
	// issuerRef names the issuer of the certificate.
	// +required
	IssuerRef IssuerReference `json:"issuerRef,omitzero"`

	// duration is the lifetime of the certificate, from 1h to 87600h, in hours, minutes and
	// seconds. Defaults to 2160h (90 days).
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="duration must be 1h to 87600h"
	// +optional
	Duration Duration `json:"duration,omitempty"`

	// renewBefore is how long before it expires the certificate is renewed, in hours, minutes and
	// seconds. It is at least 5m and less than duration. Defaults to a third of duration.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('87600h')",message="renewBefore must be 5m to 87600h"
	// +optional
	RenewBefore Duration `json:"renewBefore,omitempty"`

	// serviceNames determines whether the certificate includes the names of the Service in addition
	// to hostnames. These are NAME.NAMESPACE, NAME.NAMESPACE.svc and
	// NAME.NAMESPACE.svc.cluster.local. A certificate of an earlier release that includes NAME
	// keeps it. Exclude is for issuers that reject such names, such as ACME issuers and many
	// corporate ones. Clients in the cluster must then use one of hostnames. Defaults to Include.
	// +optional
	ServiceNames ServiceNames `json:"serviceNames,omitempty"`

	// commonName determines the common name of the certificate. None: it has no common name.
	// FirstHostname: it is the first of hostnames with at most 64 characters. Clients ignore the
	// common name. Some issuers require one, such as a role of Vault's PKI engine by default.
	// Defaults to None.
	// +optional
	CommonName CommonName `json:"commonName,omitempty"`
}

// ServiceNames determines whether a certificate includes the names of the Service.
// +kubebuilder:validation:Enum=Include;Exclude
type ServiceNames string

const (
	// ServiceNamesInclude adds the names of the Service to the hostnames.
	ServiceNamesInclude ServiceNames = "Include"
	// ServiceNamesExclude leaves only the hostnames.
	ServiceNamesExclude ServiceNames = "Exclude"
)

// CommonName determines the common name of a certificate.
// +kubebuilder:validation:Enum=None;FirstHostname
type CommonName string

const (
	// CommonNameNone sets no common name.
	CommonNameNone CommonName = "None"
	// CommonNameFirstHostname sets the first hostname that is short enough.
	CommonNameFirstHostname CommonName = "FirstHostname"
)

// IssuerReference names a cert-manager issuer.
type IssuerReference struct {
	// name is the name of the issuer.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`

	// kind is Issuer, for an issuer of the same namespace, or ClusterIssuer. Defaults to Issuer.
	// +kubebuilder:validation:Enum=Issuer;ClusterIssuer
	// +optional
	Kind string `json:"kind,omitempty"`
}

// Database is where the notes are stored. Exactly one field must be set.
// +kubebuilder:validation:XValidation:rule="has(self.postgres) != has(self.embedded)",message="database needs exactly one of postgres and embedded"
type Database struct {
	// postgres is a PostgreSQL database, version 14 or later, that you run and back up.
	// +optional
	Postgres *Postgres `json:"postgres,omitempty"`

	// embedded is a SQLite database on a volume that the operator creates. It supports one replica.
	// +optional
	Embedded *Embedded `json:"embedded,omitempty"`
}

// Postgres is the connection to a PostgreSQL database. It uses TLS and always verifies the server's
// certificate and host name.
type Postgres struct {
	// uriSecretRef names the Secret key that holds the connection URI:
	// postgres://USER:PASSWORD@HOST/DATABASE, or postgres://HOST/DATABASE with vaultCredentials.
	// The pods use a changed URI for new connections, without a restart.
	// +required
	URISecretRef SecretKeyReference `json:"uriSecretRef,omitzero"`

	// caSecretRef names the Secret key that holds the CA certificates, in PEM, that the server's
	// certificate must chain to. If unset, the system's CA certificates are used.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`

	// vaultCredentials has Vault's database secrets engine create the user and the password. Each
	// process gets its own for a limited time. A KeyRotation of reason Compromise revokes them all.
	// The Vault administrator creates the engine's role. It has the same name as the master key:
	// sn-CLUSTER.NAMESPACE.NAME.
	// +optional
	VaultCredentials *VaultCredentials `json:"vaultCredentials,omitempty"`
}

// VaultCredentials has no settings, because a tenant must not choose the mount or the role.
type VaultCredentials struct{}

// Embedded is a SQLite database on a volume.
type Embedded struct {
	// storage is the volume of the database.
	// +optional
	Storage *Storage `json:"storage,omitempty"`
}

// Storage is the volume of the embedded database. It must be local or block storage, because SQLite
// is not safe on a network file system.
type Storage struct {
	// size is the size of the volume in Mi, Gi or Ti, such as 5Gi. It can grow if the storage class
	// allows volume expansion. If the class does not, size can be set back to the size of the
	// volume in status.volumeSize. While no volume exists, size can also be lowered. Defaults to
	// 1Gi.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]*(Mi|Gi|Ti)$`
	// +optional
	Size string `json:"size,omitempty"`

	// storageClassName is the StorageClass of the volume. If unset, the cluster's default is used.
	// It cannot be changed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`
}

// KeyRotationPolicy is the policy for rotating the master key.
type KeyRotationPolicy struct {
	// schedule is when the key is rotated, in Cron format, such as "0 3 1 * *", or @monthly. If
	// unset, the key is rotated only on request. If times are missed because suspend was set or the
	// operator was down, one rotation makes up for all of them. A new or changed schedule or time
	// zone counts from when the operator first sees it, so earlier times are not missed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +optional
	Schedule string `json:"schedule,omitempty"`

	// timeZone is the IANA time zone of the schedule, such as Europe/Berlin. When clocks are put
	// forward, a time that is skipped runs right after the change. When clocks are put back, a time
	// that occurs twice runs only the first time. Defaults to Etc/UTC.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-+_/A-Za-z0-9]*$`
	// +optional
	TimeZone string `json:"timeZone,omitempty"`

	// strategy is the strategy of rotations that do not set one. Reencrypt gives each user a new
	// owner key and encrypts every note again with it. Rewrap only wraps the existing owner keys
	// with the new version of the master key: it is faster, and enough if no owner key can have
	// leaked. Defaults to Reencrypt.
	// +optional
	Strategy RotationStrategy `json:"strategy,omitempty"`

	// retainOldVersionFor is how long the previous version of the key can still decrypt after a
	// rotation, from 0s to 87600h, in hours, minutes and seconds. It should be at least the age of
	// the oldest database backup that you may restore. A rotation of reason Compromise ignores it.
	// Defaults to 720h (30 days).
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="retainOldVersionFor must be 0s to 87600h"
	// +optional
	RetainOldVersionFor Duration `json:"retainOldVersionFor,omitempty"`

	// trim destroys versions of the key in Vault that can no longer decrypt. This cannot be undone:
	// database backups that need these versions can never be read again. The Vault administrator
	// must first run `operator vault-setup --allow-trim`. If unset, all versions are kept, and the
	// administrator can let them decrypt again.
	// +optional
	Trim *Trim `json:"trim,omitempty"`

	// suspend stops the schedule. Rotations on request still run. When it is set back to false, one
	// rotation makes up for the missed times. Defaults to false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// parallelism is the number of pods that re-encrypt at the same time, from 1 to 32. It is
	// always 1 with the embedded database. A change applies to the next rotation or retry. Defaults
	// to 1.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +optional
	Parallelism *int32 `json:"parallelism,omitempty"`

	// maxNotesPerSecond is the maximum number of notes per second that all pods of a rotation
	// together re-encrypt, from 1 to 1000000. With Rewrap, which rewrites no note, it counts owner
	// keys. Each pod gets an equal share. A change applies to the next rotation or retry. A
	// rotation of reason Compromise ignores it. If unset, a rotation only yields to the users'
	// requests.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	MaxNotesPerSecond *int32 `json:"maxNotesPerSecond,omitempty"`

	// historyLimit is the number of finished rotations to keep, with their Jobs, from 0 to 100. It
	// counts only rotations that the operator created for the schedule or the annotation. The
	// operator never deletes a rotation that a person created. Defaults to 5.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	HistoryLimit *int32 `json:"historyLimit,omitempty"`
}

// Trim determines when versions of the master key are destroyed.
type Trim struct {
	// after is how long a version must have been unable to decrypt before it is destroyed, from 0s
	// to 87600h, in hours, minutes and seconds. It should be at least as long as you keep any
	// backup of the database.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('87600h')",message="after must be 0s to 87600h"
	// +required
	After Duration `json:"after,omitempty"`

	// keepFromVersion is the oldest version to keep for a backup that is kept longer than after.
	// This version and newer ones are not destroyed. If unset, every version is destroyed when its
	// time comes and, with spec.backup, no backup of it needs the version.
	// +kubebuilder:validation:Minimum=1
	// +optional
	KeepFromVersion *int64 `json:"keepFromVersion,omitempty"`
}

// Auth configures the accounts of the API's users.
type Auth struct {
	// registration determines who can create an account. Open: anyone. Closed: no one. Defaults to
	// Open.
	// +kubebuilder:validation:Enum=Open;Closed
	// +optional
	Registration string `json:"registration,omitempty"`

	// tokenTTL is the lifetime of a session, from 5m to 720h, in hours, minutes and seconds.
	// Defaults to 1h.
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('5m') && duration(self) <= duration('720h')",message="tokenTTL must be 5m to 720h"
	// +optional
	TokenTTL Duration `json:"tokenTTL,omitempty"`

	// bcryptCost is the bcrypt cost of new password hashes, from 12 to 16. Each step doubles the
	// time of a login. Defaults to 12.
	// +kubebuilder:validation:Minimum=12
	// +kubebuilder:validation:Maximum=16
	// +optional
	BcryptCost *int32 `json:"bcryptCost,omitempty"`

	// minPasswordLength is the minimum length of a password in characters, from 8 to 64. Defaults
	// to 8.
	// +kubebuilder:validation:Minimum=8
	// +kubebuilder:validation:Maximum=64
	// +optional
	MinPasswordLength *int32 `json:"minPasswordLength,omitempty"`
}

// RateLimits limit failed logins, registrations and requests. At most one of memory and redis can
// be set.
// +kubebuilder:validation:XValidation:rule="!(has(self.memory) && has(self.redis))",message="rateLimits needs at most one of memory and redis"
type RateLimits struct {
	// failedLoginsPerMinute is the number of failed logins allowed per minute from one address (one
	// /64 network for IPv6), over all replicas, from 1 to 1000. A username may have six times as
	// many. Defaults to 5.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	FailedLoginsPerMinute *int32 `json:"failedLoginsPerMinute,omitempty"`

	// requestsPerMinute is the number of requests allowed per minute for one user, or for one
	// address that is not logged in, at each replica, from 1 to 1000000. Defaults to 1200.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RequestsPerMinute *int32 `json:"requestsPerMinute,omitempty"`

	// registrationsPerDay is the number of accounts that can be created per day from one address
	// (one /64 network for IPv6), over all replicas, from 1 to 1000000. Defaults to 500, so that an
	// office behind one address can register in a day.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	RegistrationsPerDay *int32 `json:"registrationsPerDay,omitempty"`

	// memory counts failed logins in the memory of the service. It requires replicas: 1. A restart
	// resets the counts. If neither memory nor redis is set, failed logins are counted in the
	// database.
	// +optional
	Memory *MemoryStore `json:"memory,omitempty"`

	// redis counts failed logins in Redis. No one can log in while Redis is unavailable. If neither
	// memory nor redis is set, failed logins are counted in the database.
	// +optional
	Redis *RedisStore `json:"redis,omitempty"`
}

// Quotas limit what is stored. A lower quota deletes nothing: a user above it can still read,
// shorten and delete notes, but cannot add any.
type Quotas struct {
	// accounts is the maximum number of accounts, from 1 to 10000000. No one can register once it
	// is reached. Defaults to 100000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Accounts *int32 `json:"accounts,omitempty"`

	// notes is the maximum number of notes of one user, from 1 to 10000000. Defaults to 100000.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Notes *int32 `json:"notes,omitempty"`

	// bytes is the maximum size of the notes of one user, as stored after encryption, from 1Mi to
	// 1Ti. Defaults to 512Mi.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:Pattern=`^[1-9][0-9]*(Mi|Gi|Ti)$`
	// +kubebuilder:validation:XValidation:rule="quantity(self).compareTo(quantity('1Ti')) <= 0",message="quotas.bytes must be 1Mi to 1Ti"
	// +optional
	Bytes string `json:"bytes,omitempty"`
}

// MemoryStore has no settings.
type MemoryStore struct{}

// RedisStore is the connection to Redis or a compatible server. It uses TLS and always verifies the
// server's certificate and host name.
type RedisStore struct {
	// uriSecretRef names the Secret key that holds the connection URI:
	// rediss://USER:PASSWORD@HOST:6379/0. The pods use a changed URI for new connections, without a
	// restart.
	// +required
	URISecretRef SecretKeyReference `json:"uriSecretRef,omitzero"`

	// caSecretRef names the Secret key that holds the CA certificates, in PEM, that the server's
	// certificate must chain to. If unset, the system's CA certificates are used.
	// +optional
	CASecretRef *SecretKeyReference `json:"caSecretRef,omitempty"`
}

// CORS lists the origins whose web pages may call the API.
type CORS struct {
	// allowedOrigins are the allowed origins, such as https://app.example.com, from 1 to 64. Each
	// starts with https:// and has no path.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=256
	// +kubebuilder:validation:items:Pattern=`^https://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?$`
	// +listType=set
	// +required
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// SecureNotesList is a list of SecureNotes.
// +kubebuilder:object:root=true
type SecureNotesList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SecureNotes `json:"items"`
}
