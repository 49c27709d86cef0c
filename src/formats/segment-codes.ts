/** Names of structures, as model configs spell them -> SNOMED CT codes for DICOM objects. */

export interface Code {
  readonly value: string
  readonly scheme: 'SCT' | 'DCM'
  readonly meaning: string
}

export interface SegmentCode {
  readonly category: Code
  readonly type: Code
  readonly modifier?: Code | undefined
}

const sct = (value: string, meaning: string): Code => ({ value, scheme: 'SCT', meaning })

const ANATOMY = sct('123037004', 'Anatomical Structure')
const TISSUE = sct('85756007', 'Tissue')
const ALTERED = sct('49755003', 'Morphologically Altered Structure')
const LEFT = sct('7771000', 'Left')
const RIGHT = sct('24028007', 'Right')

const STRUCTURES: ReadonlyMap<string, Code> = new Map(
  Object.entries({
    aorta: sct('15825003', 'Aorta'),
    bladder: sct('89837001', 'Urinary bladder'),
    bone: sct('272673000', 'Bone'),
    brain: sct('12738006', 'Brain'),
    brainstem: sct('15926001', 'Brainstem'),
    caudate: sct('11000004', 'Caudate nucleus'),
    cerebellum: sct('113305005', 'Cerebellum'),
    colon: sct('71854001', 'Colon'),
    duodenum: sct('38848004', 'Duodenum'),
    esophagus: sct('32849002', 'Esophagus'),
    femur: sct('71341001', 'Femur'),
    gallbladder: sct('28231008', 'Gallbladder'),
    heart: sct('80891009', 'Heart'),
    hippocampus: sct('5366008', 'Hippocampus'),
    'inferior vena cava': sct('64131007', 'Inferior vena cava'),
    kidney: sct('64033007', 'Kidney'),
    liver: sct('10200004', 'Liver'),
    lung: sct('39607008', 'Lung'),
    pancreas: sct('15776009', 'Pancreas'),
    prostate: sct('41216001', 'Prostate'),
    putamen: sct('89278009', 'Putamen'),
    rib: sct('113197003', 'Rib'),
    'spinal cord': sct('2748008', 'Spinal cord'),
    spleen: sct('78961009', 'Spleen'),
    stomach: sct('69695003', 'Stomach'),
    thalamus: sct('42695009', 'Thalamus'),
    trachea: sct('44567001', 'Trachea'),
  }),
)
const ALTERATIONS: ReadonlyMap<string, Code> = new Map(
  Object.entries({
    lesion: sct('52988006', 'Lesion'),
    neoplasm: sct('108369006', 'Neoplasm'),
    tumor: sct('108369006', 'Neoplasm'),
  }),
)
const SPELLINGS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'brain stem': 'brainstem',
    gallblader: 'gallbladder',
    ivc: 'inferior vena cava',
    kidneys: 'kidney',
    lungs: 'lung',
    oesophagus: 'esophagus',
    postcava: 'inferior vena cava',
    tumour: 'tumor',
    'urinary bladder': 'bladder',
  }),
)

/** A name nobody has a code for is tissue, as 3D Slicer has it; the segment keeps the name as its label all the same. */
export function segmentCode(name: string): SegmentCode {
  let words = name
    .toLowerCase()
    .replace(/[_\-.,()]+/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
  let modifier: Code | undefined
  for (const [side, code] of [
    ['left', LEFT],
    ['right', RIGHT],
  ] as const) {
    if (!words.split(' ').includes(side)) continue
    modifier = code
    words = words
      .split(' ')
      .filter((word) => word !== side)
      .join(' ')
  }
  words = SPELLINGS.get(words) ?? words
  const structure = STRUCTURES.get(words)
  if (structure) return { category: ANATOMY, type: structure, modifier }
  // "liver tumor", "stroke lesion": where it is says less than what it is.
  const last = words.split(' ').at(-1)!
  const altered = ALTERATIONS.get(SPELLINGS.get(last) ?? last)
  if (altered) return { category: ALTERED, type: altered, modifier }
  return { category: TISSUE, type: TISSUE, modifier }
}
