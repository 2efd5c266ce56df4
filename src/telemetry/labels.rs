//! The values that labels of metrics can have: closed sets, so that no client can make a series.

/// Declares a closed set of label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl LabelSet for $name {
            const LABELS: &[&'static str] = &[$($label),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) trait LabelSet: Copy {
    const LABELS: &[&'static str];

    /// The place of this value in `LABELS`.
    fn index(self) -> usize;
}

labels! {
    /// What became of a logout that an app was to be told of.
    AppLogout {
        /// The app took it.
        Done = "done",
        /// It gave no answer, or none that says so.
        Failed = "failed",
        /// Too many ended at once.
        LeftOut = "left_out",
    }
}

labels! {
    /// How a look into the session cache went.
    CacheLookup {
        Hit = "hit",
        Miss = "miss",
        /// The cache knew that there is no such session.
        NegativeHit = "negative_hit",
    }
}

labels! {
    /// What became of something that an app wanted kept in a session.
    DataChange {
        /// It could not be stored, and the app's answer was not passed on.
        Failed = "failed",
        /// It was malformed, over a limit, or for nobody.
        Refused = "refused",
        Stored = "stored",
    }
}

labels! {
    LoginOutcome {
        /// Too many passwords are being checked at once.
        Busy = "busy",
        /// The password was right, but the user has as many sessions as are allowed.
        Denied = "denied",
        Failed = "failed",
        Succeeded = "succeeded",
        Throttled = "throttled",
    }
}

labels! {
    /// What became of a session or of a token that was shown.
    SessionEvent {
        /// By its owner, an administrator or a new login.
        Ended = "ended",
        Expired = "expired",
        Issued = "issued",
        Rotated = "rotated",
        TokenReused = "token_reused",
        /// A well-formed token that belongs to no session.
        Unknown = "unknown",
        /// Sealed under a secret that is missing here, or of another version.
        Unreadable = "unreadable",
    }
}

labels! {
    /// One method of a session store.
    StoreOp {
        Claim = "claim",
        Confirm = "confirm",
        Create = "create",
        Epoch = "epoch",
        List = "list",
        Load = "load",
        Remove = "remove",
        Rotate = "rotate",
        Sweep = "sweep",
        Touch = "touch",
        Update = "update",
    }
}

labels! {
    /// What a session store may do or refuse.
    StoreSide {
        Reading = "reading",
        Writing = "writing",
    }
}

labels! {
    /// Why an app gave no answer.
    UpstreamFailure {
        Connect = "connect",
        Exchange = "exchange",
        Timeout = "timeout",
    }
}
