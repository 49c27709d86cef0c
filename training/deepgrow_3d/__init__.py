"""models/deepgrow_3d: any structure of a volume, from clicks."""
