//! Condition types and reasons: the only place where their strings exist.

/// Types of a claim's conditions.
pub mod kind {
    /// The spec can be honoured.
    pub const ACCEPTED: &str = "Accepted";
    /// A client can connect, write and read.
    pub const READY: &str = "Ready";
    /// The volume is there, ours, and of the wanted size.
    pub const STORAGE_READY: &str = "StorageReady";
    /// The Secrets are there and the database knows their password.
    pub const CREDENTIALS_READY: &str = "CredentialsReady";
    /// A change waits for a restart.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// kstatus: the operator is still at work for this generation.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: the operator cannot go on by itself.
    pub const STALLED: &str = "Stalled";
}

/// Reasons that only Events have: the milestones of an ordinary life. `Ready`, `Hibernated` and `Restarting` are
/// milestones as well.
pub mod event {
    /// Volume, Secrets and database of a new claim are being made.
    pub const CREATED: &str = "Created";
    /// The volume of a former claim is taken up again.
    pub const UNDELETED: &str = "Undeleted";
    /// The database has the CPU and memory of another size without a restart.
    pub const RESIZED: &str = "Resized";
    /// The volume has grown.
    pub const STORAGE_GROWN: &str = "StorageGrown";
    /// The database runs another version.
    pub const UPGRADED: &str = "Upgraded";
    /// The binding Secret has new credentials.
    pub const ROTATED: &str = "Rotated";
}

/// Reasons, for conditions and Events.
pub mod reason {
    /// All is well.
    pub const READY: &str = "Ready";
    /// The spec is honoured.
    pub const ACCEPTED: &str = "Accepted";
    /// The spec cannot be honoured.
    pub const INVALID: &str = "Invalid";
    /// A name that we need belongs to somebody else's object.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// An object of a former claim of this name is still being removed.
    pub const WAITING_FOR_REMOVAL: &str = "WaitingForRemoval";
    /// `spec.paused` is true.
    pub const PAUSED: &str = "Paused";
    /// Objects are being made; the database is starting.
    pub const PROVISIONING: &str = "Provisioning";
    /// The claim is being deleted.
    pub const TERMINATING: &str = "Terminating";
    /// The volume is not bound yet.
    pub const VOLUME_PENDING: &str = "VolumePending";
    /// The volume is being deleted.
    pub const VOLUME_TERMINATING: &str = "VolumeTerminating";
    /// The volume is at 85 % or more.
    pub const VOLUME_FILLING: &str = "VolumeFilling";
    /// The volume is at 95 % or more: writes are refused, or will be at any moment.
    pub const VOLUME_FULL: &str = "VolumeFull";
    /// The volume's StorageClass does not let it grow.
    pub const EXPANSION_REFUSED: &str = "ExpansionRefused";
    /// The volume does not grow: its driver fails, or there is none.
    pub const EXPANSION_STUCK: &str = "ExpansionStuck";
    /// The volume is being enlarged.
    pub const VOLUME_RESIZING: &str = "VolumeResizing";
    /// Data is expected and the volume is empty or gone.
    pub const DATA_MISSING: &str = "DataMissing";
    /// The volume holds something other than what the claim asks for.
    pub const DATA_MISMATCH: &str = "DataMismatch";
    /// The admin Secret cannot be read as what we wrote.
    pub const SECRET_UNREADABLE: &str = "SecretUnreadable";
    /// The Pod is not there yet.
    pub const POD_MISSING: &str = "PodMissing";
    /// The Pod cannot be scheduled.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The image cannot be pulled.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// A container cannot be made.
    pub const CONTAINER_CONFIG: &str = "ContainerConfigError";
    /// A container ends again and again.
    pub const CRASH_LOOP: &str = "CrashLoop";
    /// The container was killed for want of memory.
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// The agent has not reported yet.
    pub const AGENT_SILENT: &str = "AgentSilent";
    /// The engine starts or recovers.
    pub const STARTING: &str = "Starting";
    /// The engine is being stopped.
    pub const STOPPING: &str = "Stopping";
    /// The engine answers and refuses writes.
    pub const WRITE_TEST_FAILED: &str = "WriteTestFailed";
    /// The application's database was dropped.
    pub const DATABASE_MISSING: &str = "DatabaseMissing";
    /// The database refuses the application's login.
    pub const LOGIN_REFUSED: &str = "LoginRefused";
    /// The engine runs and does not answer new connections.
    pub const ENGINE_UNREACHABLE: &str = "EngineUnreachable";
    /// The endpoint is not listed ready yet.
    pub const ENDPOINT_NOT_READY: &str = "EndpointNotReady";
    /// A newer password is not in force yet.
    pub const CREDENTIALS_PENDING: &str = "CredentialsPending";
    /// New credentials are on their way.
    pub const ROTATING: &str = "Rotating";
    /// New credentials were asked for and wait until the previous ones end.
    pub const ROTATION_WAITING: &str = "RotationWaiting";
    /// The server's certificate cannot be used, has expired or is for other names.
    pub const CERTIFICATE_INVALID: &str = "CertificateInvalid";
    /// A difference in the Pod template waits for a restart.
    pub const RESTART_NEEDED: &str = "RestartNeeded";
    /// A restart that was asked for is under way.
    pub const RESTARTING: &str = "Restarting";
    /// The Pod is being given the CPU and memory of a larger size while it runs.
    pub const RESIZING: &str = "Resizing";
    /// `spec.hibernated` is true, and the database is stopped.
    pub const HIBERNATED: &str = "Hibernated";
    /// Nothing waits.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// Work is under way.
    pub const IN_PROGRESS: &str = "InProgress";
    /// Nothing to do.
    pub const IDLE: &str = "Idle";
    /// No StorageClass, or one that does not exist.
    pub const STORAGE_CLASS_MISSING: &str = "StorageClassMissing";
    /// The volume cannot be provisioned.
    pub const PROVISIONING_FAILED: &str = "ProvisioningFailed";
    /// A ResourceQuota is full.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A LimitRange is in the way.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// Pod Security admission refuses the Pod.
    pub const POD_SECURITY: &str = "PodSecurityRefused";
    /// The Pod cannot be made, for another reason.
    pub const POD_REFUSED: &str = "PodRefused";
    /// The Pod is on its node and cannot start: a mount, the sandbox.
    pub const POD_START_FAILED: &str = "PodStartFailed";
    /// The node does not answer.
    pub const NODE_LOST: &str = "NodeLost";
    /// The API server refuses our writes.
    pub const API_REFUSED: &str = "ApiRefused";
}
