"""What may stay in a header though the standard's table does not name it: numbers and words of fixed lists.

A list of what is needed to show and measure an image, not of what is harmful: what is on neither list goes.
No name here stands for free text. Numbers are written anew, and words stay where they are on their list, so
that nothing that a person typed into the wrong field stays.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMBERS = _words(
    """
    SamplesPerPixel PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation PixelAspectRatio PixelPaddingValue PixelPaddingRangeLimit LossyImageCompressionRatio
    RescaleIntercept RescaleSlope WindowCenter WindowWidth LUTDescriptor
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing SliceThickness SpacingBetweenSlices
    SliceLocation ImagePositionPatient ImageOrientationPatient ReconstructionDiameter DataCollectionDiameter
    GantryDetectorTilt TableHeight DistanceSourceToDetector DistanceSourceToPatient
    EstimatedRadiographicMagnificationFactor
    SeriesNumber AcquisitionNumber InstanceNumber ImagesInAcquisition TemporalPositionIdentifier
    NumberOfTemporalPositions TemporalPositionIndex InStackPositionNumber DimensionIndexValues
    FrameAcquisitionNumber
    KVP ExposureTime XRayTubeCurrent Exposure ExposureInuAs FocalSpots RevolutionTime SingleCollimationWidth
    TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor CTDIvol
    RelativeXRayExposure Sensitivity PositionerPrimaryAngle PositionerSecondaryAngle BodyPartThickness
    CompressionForce PixelIntensityRelationshipSign
    RepetitionTime EchoTime InversionTime NumberOfAverages MagneticFieldStrength EchoNumbers
    NumberOfPhaseEncodingSteps EchoTrainLength PercentSampling PercentPhaseFieldOfView PixelBandwidth
    FlipAngle TriggerTime DiffusionBValue AcquisitionMatrix EffectiveEchoTime
    RadionuclideTotalDose RadionuclideHalfLife DecayFactor FrameTime FrameTimeVector ActualFrameDuration
    CineRate RecommendedDisplayFrameRate NumberOfSlices NumberOfTimeSlices ImageIndex
    RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0 RegionLocationMinY0
    RegionLocationMaxX1 RegionLocationMaxY1 PhysicalUnitsXDirection PhysicalUnitsYDirection PhysicalDeltaX
    PhysicalDeltaY ReferencePixelX0 ReferencePixelY0 FrameIncrementPointer DimensionIndexPointer
    FunctionalGroupPointer PatientSize PatientWeight PregnancyStatus
    """
)
"""Elements of the VRs AT, DS, FD, FL, IS, SL, SS, UL and US."""

SEQUENCES = _words(
    """
    ModalityLUTSequence VOILUTSequence SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
    FrameContentSequence PlanePositionSequence PlaneOrientationSequence PixelMeasuresSequence
    PixelValueTransformationSequence FrameVOILUTSequence CTImageFrameTypeSequence MRImageFrameTypeSequence
    CTAcquisitionDetailsSequence CTExposureSequence CTGeometrySequence CTReconstructionSequence
    CTXRayDetailsSequence MRTimingAndRelatedParametersSequence MREchoSequence FrameAnatomySequence
    DimensionOrganizationSequence DimensionIndexSequence SequenceOfUltrasoundRegions
    """
)
"""Sequences whose items go through the same rules."""

CODES = _words(
    """
    AnatomicRegionSequence AnatomicRegionModifierSequence PrimaryAnatomicStructureSequence ViewCodeSequence
    ViewModifierCodeSequence PurposeOfReferenceCodeSequence PatientOrientationCodeSequence
    PatientOrientationModifierCodeSequence PatientGantryRelationshipCodeSequence RadionuclideCodeSequence
    """
)
"""Sequences of coded concepts: codes of public schemes stay, with the meaning that the scheme gives them."""


_KIND = frozenset({"PROJECTION IMAGE", "SINGLE PLANE", "WHOLE BODY"}) | _words(
    """
    ORIGINAL DERIVED MIXED PRIMARY SECONDARY AXIAL LOCALIZER OTHER MPR M P R I M_SE M_FFE M_IR PHASE_MAP ND
    NORM DIS2D FM FFE SE MAGNITUDE VOLUME NONE REFORMATTED CT_SOM5_SPI CT_SOM5_SEQ ADC DIFFUSION T1 T2 ANGIO
    PERFUSION STATIC DYNAMIC TOMO GATED EMISSION TRANSMISSION RESAMPLED MIN_IP MAX_IP MEAN MEDIAN
    """
)
_SIDES = _words(
    "A P L R H F AL AR PL PR LA RA LP RP HA AH HP PH FA AF FP PF LH RH LF RF LE RT LV RV DI PR PA PO"
)

TERMS: dict[str, frozenset[str]] = {
    "Modality": _words("CT MR CR DX MG US NM PT XA RF SC OT IO PX XC"),
    "ImageType": _KIND,
    "FrameType": _KIND,
    "PatientPosition": _words("HFS HFP HFDR HFDL FFS FFP FFDR FFDL LFP LFS RFP RFS AFDR AFDL PFDR PFDL"),
    "PatientOrientation": _SIDES,
    "BodyPartExamined": _words(
        """
        ABDOMEN ABDOMENPELVIS ANKLE AORTA ARM BLADDER BRAIN BREAST CAROTID CHEST CHESTABDOMEN CHESTABDPELVIS
        CLAVICLE COCCYX COLON CSPINE CTSPINE ELBOW EXTREMITY EYE FACE FEMUR FINGER FOOT FOREARM GALLBLADDER
        HAND HEAD HEADNECK HEART HIP HUMERUS IAC JAW KIDNEY KNEE LEG LIVER LSPINE LSSPINE LUNG MANDIBLE
        MAXILLA NECK ORBIT OVARY PANCREAS PELVIS PROSTATE RIB SACRUM SCAPULA SHOULDER SINUS SKULL SPINE
        SPLEEN SSPINE STERNUM STOMACH TESTIS THIGH THORAX THUMB THYROID TIBIA TLSPINE TMJ TOE TSPINE UTERUS
        WHOLEBODY WRIST ZYGOMA
        """
    ),
    "Laterality": _words("L R"),
    "ImageLaterality": _words("L R U B"),
    "FrameLaterality": _words("L R U B"),
    "ViewPosition": _words("AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO CC MLO ML LM XCC XCCL XCCM"),
    "PhotometricInterpretation": _words("MONOCHROME1 MONOCHROME2 RGB"),
    "RescaleType": _words("HU US OD Z_EFF ED MGML PCT UNSPECIFIED"),
    "ModalityLUTType": _words("HU US OD UNSPECIFIED"),
    "VOILUTFunction": _words("LINEAR LINEAR_EXACT SIGMOID"),
    "PresentationLUTShape": _words("IDENTITY INVERSE"),
    "PresentationIntentType": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "PixelIntensityRelationship": _words("LIN LOG DISP OTHER"),
    "PixelPresentation": frozenset({"MONOCHROME", "COLOR", "MIXED", "TRUE_COLOR"}),
    "VolumetricProperties": _words("VOLUME SAMPLED DISTORTED MIXED"),
    "VolumeBasedCalculationTechnique": frozenset({"NONE", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "MIXED"}),
    "ScanningSequence": _words("SE IR GR EP RM"),
    "SequenceVariant": _words("SK MTC SS TRSS SP MP OSP TOF NONE"),
    "ScanOptions": frozenset(
        {"PER", "RG", "CG", "PPG", "FC", "PFF", "PFP", "SP", "FS", "AXIAL MODE", "HELICAL MODE"}
    ),
    "MRAcquisitionType": _words("2D 3D"),
    "InPlanePhaseEncodingDirection": _words("ROW COL COLUMN OTHER"),
    "RotationDirection": _words("CW CC"),
    "ConversionType": _words("DV DI DF WSD SD SI DRW SYN"),
    "PositionerType": _words("CARM COLUMN MAMMOGRAPHIC NONE"),
    "DetectorType": _words("DIRECT SCINTILLATOR STORAGE FILM"),
    "QualityControlImage": _words("YES NO BOTH"),
    "LossyImageCompression": _words("00 01"),
    "LossyImageCompressionMethod": frozenset(
        {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_13818_2", "ISO_14496_10", "ISO_23008_2"}
    ),
    "Units": _words("CNTS NONE CM2 PCNT CPS BQML MGMINML UMOLMINML MLMING MLG 1CM UMOLML PROPCNTS PROPCPS"),
    "DecayCorrection": _words("NONE START ADMIN"),
    "CountsSource": _words("EMISSION TRANSMISSION"),
    "SmokingStatus": _words("YES NO UNKNOWN"),
    "PatientSex": _words("M F O"),
}
"""Fixed lists of words, by keyword; a value that is not on its list goes."""

TIMELINE: tuple[tuple[str, str], ...] = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("InstanceCreationDate", "InstanceCreationTime"),
)
"""A date and its time, which move together (Retain Longitudinal Temporal Information, modified dates)."""

STAMPS = _words(
    """
    AcquisitionDateTime FrameAcquisitionDateTime FrameReferenceDateTime RadiopharmaceuticalStartDateTime
    RadiopharmaceuticalStopDateTime
    """
)
"""Dates with their times in one element, which move too."""

CHARACTERISTICS = _words("PatientSex PatientAge PatientSize PatientWeight SmokingStatus PregnancyStatus")
"""What stays by Retain Patient Characteristics. Its free text, such as allergies, goes."""
